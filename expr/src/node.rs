//! A type-checked expression: every node has one of the five types, and the operands of an operator already have the same one.

use std::collections::HashSet;
use std::sync::Arc;

use pipeline_contract::ColumnType;
use regex::Regex;

use crate::eval::Like;
use crate::functions::Function;

/// A constant. Integers and timestamps (microseconds since 1970, UTC) are both `Long`: they compare and copy alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Boolean(bool),
    Long(i64),
    Float(f64),
    Text(Arc<str>),
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An arithmetic operator; its operands are both integers or both floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What `IS` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Null,
    True,
    False,
}

/// The constants of an `IN` list, by type. Numbers are sorted, without NaN (which equals nothing).
#[derive(Clone, Debug)]
pub(crate) enum Members {
    Boolean { yes: bool, no: bool },
    Long(Vec<i64>),
    Float(Vec<f64>),
    Text(HashSet<Arc<str>>),
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Column {
        index: usize,
        nullable: bool,
    },
    Literal(Scalar),
    /// A float from an integer, so that both sides of an operator are floats.
    ToFloat(Box<Node>),
    Compare {
        op: Comparison,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// `IS DISTINCT FROM`.
    Distinct {
        left: Box<Node>,
        right: Box<Node>,
        negated: bool,
    },
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        negated: bool,
    },
    /// The list's constants are `members`, the rest `others`.
    In {
        value: Box<Node>,
        members: Option<Members>,
        others: Vec<Node>,
        has_null: bool,
        negated: bool,
    },
    Like {
        value: Box<Node>,
        pattern: Box<Node>,
        like: Like,
        negated: bool,
    },
    Matches {
        value: Box<Node>,
        regex: Regex,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Is {
        value: Box<Node>,
        test: Test,
        negated: bool,
    },
    Arithmetic {
        op: Arithmetic,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negate(Box<Node>),
    /// A timestamp moved by calendar months, then by microseconds.
    Shift {
        value: Box<Node>,
        months: i64,
        micros: i64,
    },
    /// `||`: null when any part is.
    Concat(Vec<Node>),
    /// `operand` is there for `CASE x WHEN y`, and then the conditions are values of its type.
    Case {
        operand: Option<Box<Node>>,
        branches: Vec<(Node, Node)>,
        otherwise: Option<Box<Node>>,
    },
    Coalesce(Vec<Node>),
    NullIf(Box<Node>, Box<Node>),
    /// `least` and `greatest`: nulls are passed over.
    Extreme {
        greatest: bool,
        arguments: Vec<Node>,
    },
    /// `lenient` is TRY_CAST.
    Cast {
        value: Box<Node>,
        lenient: bool,
    },
    Call(Function, Vec<Node>),
}

/// A sub-expression with its type.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) ty: ColumnType,
    pub(crate) nullable: bool,
    /// Whether a cast below it may fail on a value. Such a node is evaluated only for the rows that need it.
    pub(crate) fallible: bool,
    /// Levels below it and its own.
    pub(crate) depth: usize,
}

impl Node {
    pub(crate) fn new(kind: Kind, ty: ColumnType) -> Self {
        let children = kind.children();
        let any = children.iter().any(|child| child.nullable);
        let all = children.iter().all(|child| child.nullable);
        let nullable = match &kind {
            Kind::Column { nullable, .. } => *nullable,
            Kind::Literal(scalar) => *scalar == Scalar::Null,
            Kind::Distinct { .. } | Kind::Is { .. } => false,
            Kind::In { has_null, .. } => any || *has_null,
            // A result too large for an integer is null.
            Kind::Arithmetic { .. } | Kind::Negate(_) => any || ty == ColumnType::Integer,
            Kind::Shift { .. } | Kind::NullIf(..) => true,
            Kind::Case { branches, otherwise, .. } => {
                branches.iter().any(|(_, value)| value.nullable) || otherwise.as_ref().is_none_or(|value| value.nullable)
            }
            Kind::Coalesce(_) | Kind::Extreme { .. } => all,
            Kind::Cast { lenient, .. } => any || *lenient,
            Kind::Call(function, _) => (any && function.is_strict()) || function.may_make_null(ty),
            _ => any,
        };
        let can_fail = match &kind {
            Kind::Cast { value, lenient } => !lenient && cast_can_fail(value.ty, ty),
            Kind::Call(function, _) => *function == Function::ToTimestamp,
            _ => false,
        };
        let fallible = can_fail || children.iter().any(|child| child.fallible);
        let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
        Self { kind, ty, nullable, fallible, depth }
    }

    pub(crate) fn literal(scalar: Scalar, ty: ColumnType) -> Self {
        Self::new(Kind::Literal(scalar), ty)
    }

    pub(crate) fn as_literal(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Literal(scalar) => Some(scalar),
            _ => None,
        }
    }
}

impl Kind {
    pub(crate) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Column { .. } | Self::Literal(_) => Vec::new(),
            Self::ToFloat(value)
            | Self::Matches { value, .. }
            | Self::Not(value)
            | Self::Is { value, .. }
            | Self::Negate(value)
            | Self::Shift { value, .. }
            | Self::Cast { value, .. } => vec![value],
            Self::Compare { left, right, .. }
            | Self::Distinct { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::NullIf(left, right)
            | Self::Like { value: left, pattern: right, .. } => vec![left, right],
            Self::Between { value, low, high, .. } => vec![value, low, high],
            Self::In { value, others, .. } => std::iter::once(&**value).chain(others).collect(),
            Self::And(parts) | Self::Or(parts) | Self::Concat(parts) | Self::Coalesce(parts) | Self::Call(_, parts) => parts.iter().collect(),
            Self::Extreme { arguments, .. } => arguments.iter().collect(),
            Self::Case { operand, branches, otherwise } => {
                let operand = operand.iter().map(|node| &**node);
                let branches = branches.iter().flat_map(|(condition, value)| [condition, value]);
                operand.chain(branches).chain(otherwise.iter().map(|node| &**node)).collect()
            }
        }
    }
}

/// Whether some value of one type has no counterpart in the other.
fn cast_can_fail(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType as T;
    matches!((from, to), (T::Text, T::Boolean | T::Integer | T::Float | T::Timestamp) | (T::Float, T::Integer))
}
