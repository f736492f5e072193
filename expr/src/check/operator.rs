//! Operators: which types they take, what they give, and how two types become one.

use std::ops::Range;

use pipeline_contract::ColumnType;
use sqlparser::ast::{BinaryOperator as Op, Expr as Ast};

use super::{Checker, Type, Typed};
use crate::error::ExprError;
use crate::node::{Arithmetic, Comparison, Kind, Node, Scalar};

impl Checker<'_> {
    /// `a op b op c ...`, which the parser leans to the left, as deep as it is long: walked, not recursed into.
    pub(super) fn chain(&mut self, expr: &Ast, level: usize) -> Typed {
        let mut first = expr;
        let mut rest = Vec::new();
        while let Ast::BinaryOp { left, op, right } = first {
            rest.push((op, &**right));
            first = left;
        }
        let mut left = self.lower(first, level);
        let mut rest = rest.into_iter().rev().peekable();
        while let Some((op, right)) = rest.next() {
            let right = self.lower(right, level);
            left = match op {
                Op::And | Op::Or | Op::StringConcat => {
                    let mut parts = vec![left, right];
                    while let Some((_, next)) = rest.next_if(|(next, _)| *next == op) {
                        parts.push(self.lower(next, level));
                    }
                    self.joined(op, parts)
                }
                _ => self.binary(op, left, right),
            };
        }
        left
    }

    /// A run of AND, of OR or of `||`.
    fn joined(&mut self, op: &Op, parts: Vec<Typed>) -> Typed {
        let span = parts.first().map_or(0, |part| part.span.start)..parts.last().map_or(0, |part| part.span.end);
        let count = parts.len();
        let nodes: Vec<Node> = parts
            .into_iter()
            .filter_map(|part| match op {
                Op::And => self.boolean(part, "AND"),
                Op::Or => self.boolean(part, "OR"),
                _ => self.coerce(part, ColumnType::Text, "`||`"),
            })
            .collect();
        if nodes.len() < count {
            return Typed::faulty(span);
        }
        match op {
            Op::And => self.build(Kind::And(nodes), ColumnType::Boolean, span),
            Op::Or => self.build(Kind::Or(nodes), ColumnType::Boolean, span),
            _ => self.build(Kind::Concat(nodes), ColumnType::Text, span),
        }
    }

    fn binary(&mut self, op: &Op, left: Typed, right: Typed) -> Typed {
        let span = left.span.start..right.span.end;
        match op {
            Op::Eq => self.compare(Comparison::Equal, left, right, span),
            Op::NotEq => self.compare(Comparison::NotEqual, left, right, span),
            Op::Lt => self.compare(Comparison::Less, left, right, span),
            Op::LtEq => self.compare(Comparison::LessOrEqual, left, right, span),
            Op::Gt => self.compare(Comparison::Greater, left, right, span),
            Op::GtEq => self.compare(Comparison::GreaterOrEqual, left, right, span),
            Op::Plus => self.arithmetic(Arithmetic::Add, left, right, span),
            Op::Minus => self.arithmetic(Arithmetic::Subtract, left, right, span),
            Op::Multiply => self.arithmetic(Arithmetic::Multiply, left, right, span),
            Op::Divide => self.arithmetic(Arithmetic::Divide, left, right, span),
            Op::Modulo => self.arithmetic(Arithmetic::Remainder, left, right, span),
            other => self.faulty(ExprError::new(format!("there is no operator `{other}`"), span)),
        }
    }

    fn compare(&mut self, op: Comparison, left: Typed, right: Typed, span: Range<usize>) -> Typed {
        for side in [&left, &right] {
            if side.ty == Type::Null {
                let null = side.span.clone();
                return self.faulty(ExprError::new("a comparison with NULL is never true", null).help("use IS NULL or IS NOT NULL"));
            }
        }
        match self.pair(left, right) {
            Some((left, right)) => self.build(Kind::Compare { op, left: Box::new(left), right: Box::new(right) }, ColumnType::Boolean, span),
            None => Typed::faulty(span),
        }
    }

    pub(super) fn distinct(&mut self, left: &Ast, right: &Ast, negated: bool, level: usize) -> Typed {
        let left = self.lower(left, level);
        let right = self.lower(right, level);
        let span = left.span.start..right.span.end;
        match self.pair(left, right) {
            Some((left, right)) => self.build(Kind::Distinct { left: Box::new(left), right: Box::new(right), negated }, ColumnType::Boolean, span),
            None => Typed::faulty(span),
        }
    }

    /// Two values to compare, as one type.
    pub(super) fn pair(&mut self, left: Typed, right: Typed) -> Option<(Node, Node)> {
        if let (Type::Of(a), Type::Of(b)) = (left.ty, right.ty)
            && !meets(&left, a, &right, b)
        {
            let error = self.cannot_compare(&left, &right);
            self.fault(error);
            return None;
        }
        let (nodes, _) = self.common(vec![left, right], "a comparison")?;
        let mut nodes = nodes.into_iter();
        nodes.next().zip(nodes.next())
    }

    fn cannot_compare(&self, left: &Typed, right: &Typed) -> ExprError {
        let (Type::Of(a), Type::Of(b)) = (left.ty, right.ty) else {
            return ExprError::new("cannot compare these", left.span.start..right.span.end);
        };
        // The text is what needs a cast, so it is what the message points at; else the boolean of `1 < x < 5`.
        let points_left = matches!(a, ColumnType::Text | ColumnType::Boolean) && b != ColumnType::Text;
        let (here, there, from, to) = if points_left { (left, right, a, b) } else { (right, left, b, a) };
        let error = ExprError::new(format!("cannot compare {from} with {to}"), here.span.clone());
        if matches!(here.node.kind, Kind::Compare { .. }) {
            return error.help("join two comparisons with AND: 1 < x AND x < 5");
        }
        // A cast of the other side to text compiles, and is hardly ever what is meant.
        let help = self.cast_help(here, from, to).or_else(|| self.cast_help(there, to, from).filter(|_| from != ColumnType::Text));
        ExprError { help, ..error }
    }

    /// How to make a `to` of a part, when there is a way.
    pub(super) fn cast_help(&self, part: &Typed, from: ColumnType, to: ColumnType) -> Option<String> {
        use ColumnType as T;
        if let Some(text) = part.text_literal() {
            let bare = match to {
                T::Integer | T::Float => text.parse::<f64>().is_ok_and(f64::is_finite),
                T::Boolean => matches!(text, "true" | "false"),
                _ => false,
            };
            return bare.then(|| format!("write it without quotes: {text}"));
        }
        let written = self.source.slice(&part.span);
        let written = if written.len() > 40 { "..." } else { written };
        let is_date = || matches!(written.split('-').map(str::len).collect::<Vec<_>>()[..], [4, 1..=2, 1..=2]);
        let to = match (from, to) {
            (T::Integer, T::Timestamp) if is_date() => return Some(format!("a date stands in single quotes: '{written}'")),
            (T::Integer | T::Float, T::Timestamp) => return Some(format!("from_unix({written}) or from_unix_ms({written}) is a timestamp")),
            (T::Timestamp, T::Integer | T::Float) => return Some(format!("unix({written}) is the number of seconds since 1970")),
            (T::Text | T::Integer, T::Boolean) => "BOOLEAN",
            (T::Text | T::Float | T::Boolean, T::Integer) => "INTEGER",
            (T::Text | T::Integer, T::Float) => "FLOAT",
            (T::Text, T::Timestamp) => "TIMESTAMP",
            (_, T::Text) => "TEXT",
            _ => return None,
        };
        Some(format!("cast it: CAST({written} AS {to})"))
    }

    fn arithmetic(&mut self, op: Arithmetic, left: Typed, right: Typed, span: Range<usize>) -> Typed {
        use ColumnType as T;
        let symbol = match op {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        };
        match (left.ty, right.ty, op) {
            (Type::Interval { months, micros }, Type::Of(T::Timestamp), Arithmetic::Add)
            | (Type::Of(T::Timestamp), Type::Interval { months, micros }, Arithmetic::Add) => {
                let value = if left.ty == Type::Of(T::Timestamp) { left } else { right };
                return self.build(Kind::Shift { value: Box::new(value.node), months, micros }, T::Timestamp, span);
            }
            (Type::Of(T::Timestamp), Type::Interval { months, micros }, Arithmetic::Subtract) => {
                // Minus the smallest integer does not exist, and no interval needs it.
                let (months, micros) = (months.saturating_neg(), micros.saturating_neg());
                return self.build(Kind::Shift { value: Box::new(left.node), months, micros }, T::Timestamp, span);
            }
            (Type::Of(T::Timestamp), Type::Of(T::Timestamp), Arithmetic::Subtract) => {
                let help = format!("use seconds_between({}, {})", self.source.slice(&right.span), self.source.slice(&left.span));
                return self.faulty(ExprError::new("a timestamp minus a timestamp has no type", span).help(help));
            }
            _ => {}
        }
        let mut fine = true;
        if left.ty == Type::Faulty || right.ty == Type::Faulty {
            return Typed::faulty(span);
        }
        for side in [&left, &right] {
            if !matches!(side.ty, Type::Of(T::Integer | T::Float) | Type::Null) {
                fine = false;
                self.not_a_number(side, symbol);
            }
        }
        if !fine {
            return Typed::faulty(span);
        }
        let Some((nodes, ty)) = self.common(vec![left, right], "arithmetic") else { return Typed::faulty(span) };
        let Some(ty) = ty else { return Typed::other(Type::Null, span) };
        let ty = if op == Arithmetic::Divide { T::Float } else { ty };
        let mut nodes = nodes.into_iter().map(|node| if ty == T::Float { to_float(node) } else { node });
        match nodes.next().zip(nodes.next()) {
            Some((left, right)) => self.build(Kind::Arithmetic { op, left: Box::new(left), right: Box::new(right) }, ty, span),
            None => Typed::faulty(span),
        }
    }

    /// Reports an operand of arithmetic that is no number.
    pub(super) fn not_a_number(&mut self, part: &Typed, symbol: &str) -> Typed {
        let error = match part.ty {
            Type::Faulty => return Typed::faulty(part.span.clone()),
            Type::Of(ty) => {
                let error = ExprError::new(format!("`{symbol}` needs numbers, found {ty}"), part.span.clone());
                let help = match (ty, symbol) {
                    (ColumnType::Timestamp, "+" | "-") => Some("a timestamp is moved by an interval: + INTERVAL '1 hour'".to_owned()),
                    (ColumnType::Text, "+") => Some("text is joined with `||`".to_owned()),
                    _ => self.cast_help(part, ty, ColumnType::Float),
                };
                ExprError { help, ..error }
            }
            _ => ExprError::new(format!("`{symbol}` needs numbers, found an interval"), part.span.clone())
                .help("an interval is added to a timestamp, or subtracted from it"),
        };
        self.faulty(error)
    }

    /// The part as a boolean.
    pub(super) fn boolean(&mut self, part: Typed, what: &str) -> Option<Node> {
        match part.ty {
            Type::Of(ty @ (ColumnType::Integer | ColumnType::Float)) => {
                let written = self.source.slice(&part.span);
                let error = ExprError::new(format!("{what} needs a boolean, found {ty}"), part.span);
                self.fault(error.help(format!("compare it: {written} <> 0")));
                None
            }
            _ => self.coerce(part, ColumnType::Boolean, what),
        }
    }

    /// The part as this type: an integer may become a float, a text literal a timestamp, NULL anything.
    pub(super) fn coerce(&mut self, part: Typed, to: ColumnType, what: &str) -> Option<Node> {
        match part.ty {
            Type::Faulty => None,
            Type::Null => Some(Node::literal(Scalar::Null, to)),
            Type::Of(from) if from == to => Some(part.node),
            Type::Of(ColumnType::Integer) if to == ColumnType::Float => Some(to_float(part.node)),
            Type::Of(from) => {
                if to == ColumnType::Timestamp
                    && let Some(text) = part.text_literal()
                {
                    let read = self.timestamp(text, &part.span, part.span.clone());
                    return (read.ty != Type::Faulty).then_some(read.node);
                }
                let error = ExprError::new(format!("{what} needs {} {to}, found {from}", article(to)), part.span.clone());
                let help = self.cast_help(&part, from, to);
                self.fault(ExprError { help, ..error });
                None
            }
            Type::Interval { .. } => {
                self.fault(ExprError::new(format!("{what} needs {} {to}, found an interval", article(to)), part.span));
                None
            }
        }
    }

    /// The parts as one type, which is `None` when all of them are NULL. `what` has these parts, as "CASE".
    pub(super) fn common(&mut self, parts: Vec<Typed>, what: &str) -> Option<(Vec<Node>, Option<ColumnType>)> {
        let mut target = None;
        let mut fine = true;
        // Text literals adapt to the others, so they are looked at last.
        for literals in [false, true] {
            for part in parts.iter().filter(|part| part.text_literal().is_some() == literals) {
                target = match (target, part.ty) {
                    (None, Type::Of(ty)) => Some(ty),
                    (Some(ColumnType::Integer), Type::Of(ColumnType::Float)) => Some(ColumnType::Float),
                    (Some(ColumnType::Float), Type::Of(ColumnType::Integer)) => target,
                    (Some(ColumnType::Timestamp), Type::Of(ColumnType::Text)) if literals => target,
                    (Some(known), Type::Of(ty)) if known != ty => {
                        fine = false;
                        let error = ExprError::new(format!("{what} cannot mix {ty} with {known}"), part.span.clone());
                        let help = self.cast_help(part, ty, known);
                        self.fault(ExprError { help, ..error });
                        target
                    }
                    (known, Type::Faulty) => {
                        fine = false;
                        known
                    }
                    (known, Type::Interval { .. }) => {
                        fine = false;
                        self.fault(ExprError::new("an interval is not a value", part.span.clone()));
                        known
                    }
                    (known, _) => known,
                };
            }
        }
        if !fine {
            return None;
        }
        let Some(to) = target else { return Some((parts.into_iter().map(|part| part.node).collect(), None)) };
        let count = parts.len();
        let nodes: Vec<Node> = parts.into_iter().filter_map(|part| self.coerce(part, to, what)).collect();
        (nodes.len() == count).then_some((nodes, Some(to)))
    }
}

/// Whether two types compare: the same, two numbers, or a timestamp and a text literal (which may still not read as one).
fn meets(left: &Typed, a: ColumnType, right: &Typed, b: ColumnType) -> bool {
    use ColumnType as T;
    match (a, b) {
        (T::Integer, T::Float) | (T::Float, T::Integer) => true,
        (T::Timestamp, T::Text) => right.text_literal().is_some(),
        (T::Text, T::Timestamp) => left.text_literal().is_some(),
        _ => a == b,
    }
}

/// The integer as a float; already a float, itself.
pub(super) fn to_float(node: Node) -> Node {
    match (node.ty, node.as_literal()) {
        (ColumnType::Float, _) => node,
        (_, Some(Scalar::Long(value))) => Node::literal(Scalar::Float(*value as f64), ColumnType::Float),
        (_, Some(_)) => Node::literal(Scalar::Null, ColumnType::Float),
        _ => Node::new(Kind::ToFloat(Box::new(node)), ColumnType::Float),
    }
}

fn article(ty: ColumnType) -> &'static str {
    if ty == ColumnType::Integer { "an" } else { "a" }
}
