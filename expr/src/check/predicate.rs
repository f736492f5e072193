//! The longer forms: BETWEEN, IN, LIKE, CASE, CAST.

use std::collections::HashSet;
use std::ops::Range;

use pipeline_contract::ColumnType;
use sqlparser::ast::{CaseWhen, CastKind, DataType, Expr as Ast};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::{Checker, Type, Typed};
use crate::error::ExprError;
use crate::eval::Like;
use crate::node::{Kind, Members, Node, Scalar};

impl Checker<'_> {
    pub(super) fn between(&mut self, value: &Ast, negated: bool, low: &Ast, high: &Ast, level: usize) -> Typed {
        let value = self.lower(value, level);
        let low = self.lower(low, level);
        let high = self.lower(high, level);
        let span = value.span.start..high.span.end;
        match self.common(vec![value, low, high], "BETWEEN") {
            Some((nodes, _)) => match <[Node; 3]>::try_from(nodes) {
                Ok([value, low, high]) => {
                    let kind = Kind::Between { value: Box::new(value), low: Box::new(low), high: Box::new(high), negated };
                    self.build(kind, ColumnType::Boolean, span)
                }
                Err(_) => Typed::faulty(span),
            },
            None => Typed::faulty(span),
        }
    }

    pub(super) fn in_list(&mut self, value: &Ast, list: &[Ast], negated: bool, level: usize) -> Typed {
        let value = self.lower(value, level);
        let start = value.span.start;
        let mut parts = vec![value];
        parts.extend(list.iter().map(|item| self.lower(item, level)));
        let end = parts.last().map_or(start, |last| last.span.end);
        let span = self.source.with_after(start..end, 1);
        let Some((nodes, ty)) = self.common(parts, "IN") else { return Typed::faulty(span) };
        let mut nodes = nodes.into_iter();
        let Some(value) = nodes.next() else { return Typed::faulty(span) };
        let mut constants = Vec::new();
        let mut others = Vec::new();
        let mut has_null = false;
        for node in nodes {
            match node.as_literal() {
                Some(Scalar::Null) => has_null = true,
                Some(scalar) => constants.push(scalar.clone()),
                None => others.push(node),
            }
        }
        let members = ty.filter(|_| !constants.is_empty()).map(|ty| members(constants, ty));
        let kind = Kind::In { value: Box::new(value), members, others, has_null, negated };
        self.build(kind, ColumnType::Boolean, span)
    }

    pub(super) fn like(&mut self, value: &Ast, pattern: &Ast, escape: Option<&Ast>, negated: bool, insensitive: bool, level: usize) -> Typed {
        let what = if insensitive { "ILIKE" } else { "LIKE" };
        let value = self.lower(value, level);
        let pattern = self.lower(pattern, level);
        let escape = escape.map(|escape| self.lower(escape, level));
        let span = value.span.start..escape.as_ref().map_or(pattern.span.end, |escape| escape.span.end);
        let pattern_span = pattern.span.clone();
        let value = self.coerce(value, ColumnType::Text, what);
        let pattern = self.coerce(pattern, ColumnType::Text, what);
        let escape = match escape {
            None => Some(None),
            Some(escape) => match escape.text_literal().and_then(one_character) {
                Some(character) => Some(Some(character)),
                None if escape.ty == Type::Faulty => None,
                None => {
                    self.fault(ExprError::new("ESCAPE needs one character in quotes", escape.span));
                    None
                }
            },
        };
        let (Some(value), Some(pattern), Some(escape)) = (value, pattern, escape) else { return Typed::faulty(span) };
        let literal = match pattern.as_literal() {
            Some(Scalar::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let like = Like::new(literal.as_deref(), escape, insensitive);
        if let (Some(text), Some(escape)) = (&literal, escape)
            && Like::ends_in_escape(text, escape)
        {
            return self.faulty(ExprError::new(format!("the pattern ends in its escape character `{escape}`"), pattern_span));
        }
        self.build(Kind::Like { value: Box::new(value), pattern: Box::new(pattern), like, negated }, ColumnType::Boolean, span)
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
        span: Range<usize>,
        level: usize,
    ) -> Typed {
        let mut tests: Vec<Typed> = operand.iter().map(|operand| self.lower(operand, level)).collect();
        let mut values = Vec::new();
        for CaseWhen { condition, result } in conditions {
            tests.push(self.lower(condition, level));
            values.push(self.lower(result, level));
        }
        values.extend(otherwise.map(|otherwise| self.lower(otherwise, level)));
        let count = tests.len();
        let tests = if operand.is_some() {
            self.common(tests, "CASE").map(|(nodes, _)| nodes)
        } else {
            let nodes: Vec<Node> = tests.into_iter().filter_map(|test| self.boolean(test, "WHEN")).collect();
            (nodes.len() == count).then_some(nodes)
        };
        let values = self.common(values, "CASE");
        let (Some(tests), Some((values, ty))) = (tests, values) else { return Typed::faulty(span) };
        let Some(ty) = ty else { return Typed::other(Type::Null, span) };
        let mut tests = tests.into_iter();
        let operand = operand.and_then(|_| tests.next()).map(Box::new);
        let mut values = values.into_iter();
        let branches: Vec<(Node, Node)> = tests.zip(values.by_ref()).collect();
        let otherwise = values.next().map(Box::new);
        self.build(Kind::Case { operand, branches, otherwise }, ty, span)
    }

    pub(super) fn cast(&mut self, kind: &CastKind, value: &Ast, data_type: &DataType, has_format: bool, level: usize) -> Typed {
        let value = self.lower(value, level);
        let span = self.source.to_closing(self.source.with_before(value.span.clone(), 2));
        // From after AS to before the closing parenthesis.
        let type_span = {
            let mut tokens = self.source.after(value.span.end).skip_while(|lexeme| !lexeme.is(Keyword::AS)).skip(1);
            let start = tokens.next().map_or(span.end, |lexeme| lexeme.span.start);
            start..start + self.source.slice(&(start..span.end.saturating_sub(1))).trim_end().len()
        };
        let lenient = match kind {
            CastKind::Cast => false,
            CastKind::TryCast => true,
            CastKind::SafeCast | CastKind::DoubleColon => {
                return self.faulty(ExprError::new("this kind of cast is not supported", span).help("use TRY_CAST(x AS type)"));
            }
        };
        let to = match type_of(data_type) {
            Some(to) if !has_format => to,
            _ => {
                let written = self.source.slice(&type_span);
                let error = ExprError::new(format!("unknown type `{written}`"), type_span);
                return self.faulty(error.help("types: BOOLEAN, INTEGER, FLOAT, TEXT, TIMESTAMP"));
            }
        };
        let from = match value.ty {
            Type::Of(from) => from,
            Type::Null => return Typed::new(Node::literal(Scalar::Null, to), span),
            Type::Faulty => return Typed::faulty(span),
            Type::Interval { .. } => return self.faulty(ExprError::new("an interval cannot be cast", value.span)),
        };
        if from == to {
            return Typed { span, ..value };
        }
        if !has_cast(from, to) {
            let error = ExprError::new(format!("cannot cast {from} to {to}"), value.span.clone());
            let help = self.cast_help(&value, from, to).filter(|help| !help.starts_with("cast it"));
            return self.faulty(ExprError { help, ..error });
        }
        self.build(Kind::Cast { value: Box::new(value.node), lenient }, to, span)
    }

    /// Whether a name is followed by `(`, so that it is called.
    pub(super) fn is_called(&self, name: &Range<usize>) -> bool {
        self.source.after(name.end).next().is_some_and(|lexeme| lexeme.token == Token::LParen)
    }
}

fn one_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

fn members(constants: Vec<Scalar>, ty: ColumnType) -> Members {
    match ty {
        ColumnType::Boolean => Members::Boolean { yes: constants.contains(&Scalar::Boolean(true)), no: constants.contains(&Scalar::Boolean(false)) },
        ColumnType::Integer | ColumnType::Timestamp => {
            let mut numbers: Vec<i64> = constants.iter().filter_map(|c| if let Scalar::Long(n) = c { Some(*n) } else { None }).collect();
            numbers.sort_unstable();
            numbers.dedup();
            Members::Long(numbers)
        }
        ColumnType::Float => {
            let numbers = constants.iter().filter_map(|c| if let Scalar::Float(n) = c { Some(*n) } else { None });
            let mut numbers: Vec<f64> = numbers.filter(|n| !n.is_nan()).collect();
            numbers.sort_unstable_by(f64::total_cmp);
            Members::Float(numbers)
        }
        ColumnType::Text => {
            let texts = constants.into_iter().filter_map(|c| if let Scalar::Text(text) = c { Some(text) } else { None });
            Members::Text(texts.collect::<HashSet<_>>())
        }
    }
}

/// Our five names and SQL's usual ones.
fn type_of(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type.to_string().to_ascii_uppercase().as_str() {
        "BOOLEAN" | "BOOL" => ColumnType::Boolean,
        "INTEGER" | "INT" | "BIGINT" => ColumnType::Integer,
        "FLOAT" | "DOUBLE" | "DOUBLE PRECISION" | "REAL" => ColumnType::Float,
        "TEXT" | "VARCHAR" | "STRING" => ColumnType::Text,
        "TIMESTAMP" => ColumnType::Timestamp,
        _ => return None,
    })
}

fn has_cast(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType as T;
    matches!((from, to), (T::Text, _) | (_, T::Text) | (T::Integer, T::Float | T::Boolean) | (T::Float, T::Integer) | (T::Boolean, T::Integer))
}
