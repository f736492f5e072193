//! Function calls: names, counts and types of arguments.

use std::ops::Range;

use pipeline_contract::{ColumnType, nearest};
use regex::RegexBuilder;
use sqlparser::ast::{self, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart};

use super::{Checker, Type, Typed};
use crate::error::ExprError;
use crate::functions::{FUNCTIONS, Function, Gives, Parameter, Shape, Signature, Unit, absent};
use crate::node::{Kind, Node, Scalar};

/// The most memory a compiled pattern may take, in bytes: `(a{1000}){1000}` must not take the process with it.
const REGEX_LIMIT: usize = 1 << 20;

impl Checker<'_> {
    pub(super) fn function(&mut self, function: &ast::Function, level: usize) -> Typed {
        let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else {
            return self.faulty(ExprError::new("this function is not supported", self.source.whole()));
        };
        let name_span = self.source.range(ident.span);
        let span = self.source.call(name_span.clone());
        let name = ident.value.to_ascii_lowercase();
        let Some(signature) = FUNCTIONS.iter().find(|signature| signature.name == name) else {
            return self.unknown_function(&ident.value, &name, name_span, span);
        };
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && matches!(function.parameters, FunctionArguments::None);
        let Some(arguments) = arguments(&function.args).filter(|_| plain) else {
            let error = ExprError::new("only plain arguments are supported", span);
            return self.faulty(error.help(format!("usage: {}", signature.usage)));
        };
        let parts: Vec<Typed> = arguments.into_iter().map(|argument| self.lower(argument, level)).collect();
        self.call(signature, parts, span)
    }

    fn unknown_function(&mut self, written: &str, name: &str, name_span: Range<usize>, span: Range<usize>) -> Typed {
        let names = FUNCTIONS.iter().map(|signature| signature.name);
        let message = if self.is_called(&name_span) { format!("unknown function `{written}`") } else { format!("`{written}` is not supported") };
        let error = ExprError::new(message, name_span);
        self.fault(match (absent(name), nearest(name, names.clone())) {
            (Some(why), _) => error.help(why),
            (None, Some(near)) => error.meant(near),
            (None, None) => error.help(format!("the functions are {}", names.collect::<Vec<_>>().join(", "))),
        });
        Typed::faulty(span)
    }

    fn call(&mut self, signature: &Signature, parts: Vec<Typed>, span: Range<usize>) -> Typed {
        let (least, most) = match signature.shape {
            Shape::Plain { parameters, required, .. } => (required, Some(parameters.len())),
            Shape::Coalesce | Shape::Least | Shape::Greatest | Shape::Concat => (1, None),
            Shape::NullIf | Shape::Matches | Shape::DateTrunc => (2, Some(2)),
            Shape::If => (3, Some(3)),
        };
        if parts.len() < least {
            return self.faulty(wrong_count(signature, span));
        }
        if let Some(first) = most.and_then(|most| parts.get(most)) {
            let extra = first.span.start..parts.last().map_or(first.span.end, |last| last.span.end);
            return self.faulty(wrong_count(signature, extra));
        }
        let what = format!("`{}`", signature.name);
        match signature.shape {
            Shape::Plain { function, parameters, gives, .. } => self.plain_call(function, parameters, gives, parts, &what, span),
            Shape::Coalesce => self.of_one_type(parts, &what, span, Kind::Coalesce),
            Shape::Least => self.of_one_type(parts, &what, span, |arguments| Kind::Extreme { greatest: false, arguments }),
            Shape::Greatest => self.of_one_type(parts, &what, span, |arguments| Kind::Extreme { greatest: true, arguments }),
            Shape::NullIf => self.null_if(parts, span),
            Shape::If => self.if_call(parts, &what, span),
            Shape::Concat => {
                let count = parts.len();
                let nodes: Vec<Node> = parts.into_iter().filter_map(|part| self.coerce(part, ColumnType::Text, &what)).collect();
                if nodes.len() < count {
                    return Typed::faulty(span);
                }
                self.build(Kind::Call(Function::Concat, nodes), ColumnType::Text, span)
            }
            Shape::Matches => self.matches(parts, &what, span),
            Shape::DateTrunc => self.date_trunc(parts, &what, span),
        }
    }

    fn plain_call(&mut self, function: Function, parameters: &[Parameter], gives: Gives, parts: Vec<Typed>, what: &str, span: Range<usize>) -> Typed {
        let count = parts.len();
        let mut nodes = Vec::with_capacity(count);
        for (part, parameter) in parts.into_iter().zip(parameters) {
            nodes.extend(match parameter {
                Parameter::Of(ty) => self.coerce(part, *ty, what),
                Parameter::Number => self.number_argument(part, what),
            });
        }
        if nodes.len() < count {
            return Typed::faulty(span);
        }
        let ty = match gives {
            Gives::A(ty) => ty,
            Gives::Same => nodes.first().map_or(ColumnType::Float, |first| first.ty),
        };
        self.build(Kind::Call(function, nodes), ty, span)
    }

    fn number_argument(&mut self, part: Typed, what: &str) -> Option<Node> {
        match part.ty {
            Type::Of(ColumnType::Integer | ColumnType::Float) => Some(part.node),
            Type::Of(from) => {
                let error = ExprError::new(format!("{what} needs a number, found {from}"), part.span.clone());
                let help = self.cast_help(&part, from, ColumnType::Float);
                self.fault(ExprError { help, ..error });
                None
            }
            _ => self.coerce(part, ColumnType::Float, what),
        }
    }

    fn of_one_type(&mut self, parts: Vec<Typed>, what: &str, span: Range<usize>, kind: impl FnOnce(Vec<Node>) -> Kind) -> Typed {
        match self.common(parts, what) {
            Some((nodes, Some(ty))) => self.build(kind(nodes), ty, span),
            Some((_, None)) => Typed::other(Type::Null, span),
            None => Typed::faulty(span),
        }
    }

    fn null_if(&mut self, parts: Vec<Typed>, span: Range<usize>) -> Typed {
        let mut parts = parts.into_iter();
        let Some((left, right)) = parts.next().zip(parts.next()) else { return Typed::faulty(span) };
        if left.ty == Type::Null {
            return Typed::other(Type::Null, span);
        }
        match self.pair(left, right) {
            Some((left, right)) => {
                let ty = left.ty;
                self.build(Kind::NullIf(Box::new(left), Box::new(right)), ty, span)
            }
            None => Typed::faulty(span),
        }
    }

    fn if_call(&mut self, parts: Vec<Typed>, what: &str, span: Range<usize>) -> Typed {
        let mut parts = parts.into_iter();
        let Some(condition) = parts.next() else { return Typed::faulty(span) };
        let condition = self.boolean(condition, what);
        let values = self.common(parts.collect(), what);
        let (Some(condition), Some((values, ty))) = (condition, values) else { return Typed::faulty(span) };
        let Some(ty) = ty else { return Typed::other(Type::Null, span) };
        let mut values = values.into_iter();
        match values.next().zip(values.next()) {
            Some((yes, no)) => self.build(Kind::Case { operand: None, branches: vec![(condition, yes)], otherwise: Some(Box::new(no)) }, ty, span),
            None => Typed::faulty(span),
        }
    }

    fn matches(&mut self, parts: Vec<Typed>, what: &str, span: Range<usize>) -> Typed {
        let mut parts = parts.into_iter();
        let Some((value, pattern)) = parts.next().zip(parts.next()) else { return Typed::faulty(span) };
        let value = self.coerce(value, ColumnType::Text, what);
        let regex = match pattern.text_literal() {
            Some(text) => match RegexBuilder::new(text).size_limit(REGEX_LIMIT).dfa_size_limit(REGEX_LIMIT).build() {
                Ok(regex) => Some(regex),
                Err(error) => {
                    self.fault(ExprError::new(format!("bad pattern: {}", regex_message(&error)), pattern.span));
                    None
                }
            },
            None if pattern.ty == Type::Faulty => None,
            None => {
                self.fault(ExprError::new("the pattern must be text in quotes", pattern.span));
                None
            }
        };
        match value.zip(regex) {
            Some((value, regex)) => self.build(Kind::Matches { value: Box::new(value), regex }, ColumnType::Boolean, span),
            None => Typed::faulty(span),
        }
    }

    fn date_trunc(&mut self, parts: Vec<Typed>, what: &str, span: Range<usize>) -> Typed {
        let mut parts = parts.into_iter();
        let Some((unit, value)) = parts.next().zip(parts.next()) else { return Typed::faulty(span) };
        let value = self.coerce(value, ColumnType::Timestamp, what);
        let known = unit.text_literal().and_then(Unit::of);
        if known.is_none() && unit.ty != Type::Faulty {
            let message = match unit.node.as_literal() {
                Some(Scalar::Text(name)) => format!("unknown unit `{name}`"),
                _ => "the unit must be text in quotes".to_owned(),
            };
            self.fault(ExprError::new(message, unit.span).help(format!("units: {}", Unit::NAMES)));
        }
        match value.zip(known) {
            Some((value, unit)) => self.build(Kind::Call(Function::DateTrunc(unit), vec![value]), ColumnType::Timestamp, span),
            None => Typed::faulty(span),
        }
    }
}

fn wrong_count(signature: &Signature, span: Range<usize>) -> ExprError {
    ExprError::new(format!("`{}` takes other arguments", signature.name), span).help(format!("usage: {}", signature.usage))
}

/// The arguments, when each is a plain expression.
fn arguments(arguments: &FunctionArguments) -> Option<Vec<&Ast>> {
    let list = match arguments {
        FunctionArguments::None => return Some(Vec::new()),
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => list,
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

/// The last line of the regex crate's drawing, which says what is wrong.
fn regex_message(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it compiles to more than 1 MiB".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim().trim_start_matches("error: ").to_owned()
        }
    }
}
