//! From the syntax tree to a typed one. Every fault is kept and the check goes on, so that all are reported at once; what depends on a
//! faulty part is `Type::Faulty` and says nothing more.

mod call;
mod literal;
mod operator;
mod predicate;

use std::ops::Range;

use arrow_schema::Schema;
use pipeline_contract::{ColumnType, nearest};
use sqlparser::ast::{self, Expr as Ast, Ident, Spanned, UnaryOperator};

pub(crate) use literal::parse_timestamp;

use crate::error::ExprError;
use crate::eval;
use crate::node::{Kind, Node, Scalar, Test};
use crate::source::Source;

/// How deep the typed tree may be: it is evaluated by recursion. Chains of AND, OR and `||` are one level.
const MAX_DEPTH: usize = 200;

/// The type of a part, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    /// A fault was reported; nothing that follows from it is worth a message.
    Faulty,
    /// `NULL`, which takes the type its surroundings ask for.
    Null,
    /// Calendar months and microseconds; only for adding to a timestamp.
    Interval {
        months: i64,
        micros: i64,
    },
    Of(ColumnType),
}

/// A checked part and where it stands.
struct Typed {
    ty: Type,
    node: Node,
    span: Range<usize>,
}

impl Typed {
    fn new(node: Node, span: Range<usize>) -> Self {
        Self { ty: Type::Of(node.ty), node, span }
    }

    fn other(ty: Type, span: Range<usize>) -> Self {
        Self { ty, node: Node::literal(Scalar::Null, ColumnType::Boolean), span }
    }

    fn faulty(span: Range<usize>) -> Self {
        Self::other(Type::Faulty, span)
    }

    fn text_literal(&self) -> Option<&str> {
        match (self.ty, self.node.as_literal()) {
            (Type::Of(ColumnType::Text), Some(Scalar::Text(text))) => Some(text),
            _ => None,
        }
    }
}

/// A checked expression and the columns it reads, in order of appearance.
pub(crate) struct Checked {
    pub(crate) node: Node,
    pub(crate) columns: Vec<String>,
}

/// Types the tree against the schema.
pub(crate) fn check(tree: &Ast, source: &Source<'_>, schema: &Schema) -> Result<Checked, Vec<ExprError>> {
    let mut checker = Checker { source, schema, columns: Vec::new(), errors: Vec::new() };
    let root = checker.lower(tree, 0);
    match root.ty {
        Type::Of(_) | Type::Faulty => {}
        Type::Null => checker.fault(ExprError::new("the type of NULL is not known here", root.span.clone()).help("CAST(NULL AS FLOAT)")),
        Type::Interval { .. } => {
            checker.fault(ExprError::new("an interval is not a value", root.span.clone()).help("add it to a timestamp, or subtract it"));
        }
    }
    if checker.errors.is_empty() {
        return Ok(Checked { node: root.node, columns: checker.columns });
    }
    checker.errors.sort_by_key(|error| error.span.start);
    checker.errors.dedup();
    Err(checker.errors)
}

struct Checker<'a> {
    source: &'a Source<'a>,
    schema: &'a Schema,
    columns: Vec<String>,
    errors: Vec<ExprError>,
}

impl Checker<'_> {
    fn fault(&mut self, error: ExprError) {
        self.errors.push(error);
    }

    fn faulty(&mut self, error: ExprError) -> Typed {
        let span = error.span.clone();
        self.errors.push(error);
        Typed::faulty(span)
    }

    /// A node made of checked parts, computed now when all of them are constants.
    fn build(&mut self, kind: Kind, ty: ColumnType, span: Range<usize>) -> Typed {
        let node = Node::new(kind, ty);
        if node.depth > MAX_DEPTH {
            return self.too_deep();
        }
        let children = node.kind.children();
        if children.is_empty() || children.iter().any(|child| child.as_literal().is_none()) {
            return Typed::new(node, span);
        }
        match eval::constant(&node) {
            Ok(scalar) => Typed::new(Node::literal(scalar, ty), span),
            Err(error) => self.faulty(ExprError::new(error.message, span)),
        }
    }

    fn too_deep(&mut self) -> Typed {
        let message = format!("the expression nests deeper than {MAX_DEPTH} levels");
        self.faulty(ExprError::new(message, self.source.whole()).help("split it into several columns or rules"))
    }

    fn lower(&mut self, expr: &Ast, level: usize) -> Typed {
        if level > MAX_DEPTH {
            return self.too_deep();
        }
        let level = level + 1;
        match expr {
            Ast::Identifier(name) => self.column(name),
            Ast::Nested(inner) => {
                let mut typed = self.lower(inner, level);
                typed.span = self.source.with_after(self.source.with_before(typed.span, 1), 1);
                typed
            }
            Ast::Value(value) => self.literal(value),
            Ast::TypedString(typed) => self.typed_string(typed),
            Ast::Interval(interval) => self.interval(interval),
            Ast::BinaryOp { .. } => self.chain(expr, level),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr, level),
            Ast::IsNull(value) => self.is(value, Test::Null, false, level),
            Ast::IsNotNull(value) => self.is(value, Test::Null, true, level),
            Ast::IsTrue(value) => self.is(value, Test::True, false, level),
            Ast::IsNotTrue(value) => self.is(value, Test::True, true, level),
            Ast::IsFalse(value) => self.is(value, Test::False, false, level),
            Ast::IsNotFalse(value) => self.is(value, Test::False, true, level),
            Ast::IsDistinctFrom(left, right) => self.distinct(left, right, false, level),
            Ast::IsNotDistinctFrom(left, right) => self.distinct(left, right, true, level),
            Ast::Between { expr, negated, low, high } => self.between(expr, *negated, low, high, level),
            Ast::In { expr, target: ast::InTarget::List(list), negated, .. } => self.in_list(expr, list, *negated, level),
            Ast::Like { negated, any: false, expr, pattern, escape_char } => self.like(expr, pattern, escape_char.as_deref(), *negated, false, level),
            Ast::ILike { negated, any: false, expr, pattern, escape_char } => self.like(expr, pattern, escape_char.as_deref(), *negated, true, level),
            Ast::Case { case_token, end_token, operand, conditions, else_result } => {
                let span = self.source.range(case_token.0.span).start..self.source.range(end_token.0.span).end;
                self.case(operand.as_deref(), conditions, else_result.as_deref(), span, level)
            }
            Ast::Cast { kind, expr, data_type, format } => self.cast(kind, expr, data_type, format.is_some(), level),
            Ast::Function(function) => self.function(function, level),
            _ => self.unsupported(expr),
        }
    }

    fn unsupported(&mut self, expr: &Ast) -> Typed {
        // `sqlparser` finds the span by recursion, which a chain of thousands of operators would take too deep.
        let span = if self.source.lexemes.len() > 1_000 { 0..0 } else { self.source.range(expr.span()) };
        let span = if span.is_empty() { self.source.whole() } else { span };
        let (message, help) = match expr {
            Ast::Tuple(_) => ("a list is not a value", "lists stand after IN"),
            Ast::Extract { .. } => ("EXTRACT is not supported", "use year(t), month(t), day(t), hour(t), minute(t), second(t) or day_of_week(t)"),
            Ast::In { .. } | Ast::Exists { .. } | Ast::Subquery(_) => ("subqueries are not supported", "an expression sees one row at a time"),
            Ast::RLike { .. } | Ast::SimilarTo { .. } => ("this operator is not supported", "use regexp_matches(text, 'pattern')"),
            Ast::IsUnknown(_) | Ast::IsNotUnknown(_) => ("IS UNKNOWN is not supported", "use IS NULL"),
            Ast::AtTimeZone { .. } => ("AT TIME ZONE is not supported", "timestamps are instants in UTC"),
            Ast::Convert { .. } => ("CONVERT is not supported", "use CAST(x AS type)"),
            _ => ("this SQL is not supported in an expression", "see the list of operators and functions"),
        };
        self.faulty(ExprError::new(message, span).help(help))
    }

    fn column(&mut self, name: &Ident) -> Typed {
        let span = self.source.range(name.span);
        let Some((_, field)) = self.schema.fields().find(&name.value) else {
            return self.unknown_column(name, span);
        };
        let Some(ty) = ColumnType::of(field.data_type()) else {
            let message = format!("column `{}` has type {}, which expressions do not know", name.value, field.data_type());
            return self.faulty(ExprError::new(message, span));
        };
        let index = self.columns.iter().position(|known| *known == name.value).unwrap_or_else(|| {
            self.columns.push(name.value.clone());
            self.columns.len() - 1
        });
        Typed::new(Node::new(Kind::Column { index, nullable: field.is_nullable() }, ty), span)
    }

    fn unknown_column(&mut self, name: &Ident, span: Range<usize>) -> Typed {
        let names = || self.schema.fields().iter().map(|field| field.name().as_str());
        let error = ExprError::new(format!("unknown column `{}`", name.value), span);
        if let Some(near) = nearest(&name.value, names()) {
            return self.faulty(error.meant(quoted(near)));
        }
        let help = if name.quote_style.is_some() {
            "double quotes are for names; text is written in single quotes".to_owned()
        } else if self.schema.fields().is_empty() {
            "there are no columns".to_owned()
        } else {
            format!("columns: {}", shortened_list(names()))
        };
        self.faulty(error.help(help))
    }

    fn unary(&mut self, op: UnaryOperator, operand: &Ast, level: usize) -> Typed {
        if let (UnaryOperator::Minus, Ast::Value(value)) = (op, operand)
            && let ast::Value::Number(digits, _) = &value.value
        {
            let span = self.source.with_before(self.source.range(value.span), 1);
            return self.number(&format!("-{digits}"), span);
        }
        let typed = self.lower(operand, level);
        let span = self.source.with_before(typed.span.clone(), 1);
        match op {
            UnaryOperator::Not => match self.boolean(typed, "NOT") {
                Some(node) => self.build(Kind::Not(Box::new(node)), ColumnType::Boolean, span),
                None => Typed::faulty(span),
            },
            UnaryOperator::Minus | UnaryOperator::Plus => match typed.ty {
                Type::Faulty | Type::Null => Typed { span, ..typed },
                Type::Of(ty @ (ColumnType::Integer | ColumnType::Float)) => match op {
                    UnaryOperator::Plus => Typed { span, ..typed },
                    _ => self.build(Kind::Negate(Box::new(typed.node)), ty, span),
                },
                _ => self.not_a_number(&typed, if op == UnaryOperator::Minus { "-" } else { "+" }),
            },
            _ => self.faulty(ExprError::new("this operator is not supported", span)),
        }
    }

    fn is(&mut self, value: &Ast, test: Test, negated: bool, level: usize) -> Typed {
        let typed = self.lower(value, level);
        let span = self.source.with_after(typed.span.clone(), if negated { 3 } else { 2 });
        let node = match (test, typed.ty) {
            (_, Type::Faulty) => None,
            (Test::Null, Type::Interval { .. }) => {
                self.fault(ExprError::new("an interval is not a value", typed.span));
                None
            }
            (Test::Null, _) => Some(typed.node),
            (Test::True | Test::False, _) => self.boolean(typed, if test == Test::True { "IS TRUE" } else { "IS FALSE" }),
        };
        match node {
            Some(node) => self.build(Kind::Is { value: Box::new(node), test, negated }, ColumnType::Boolean, span),
            None => Typed::faulty(span),
        }
    }
}

/// A column's name as one writes it in an expression.
fn quoted(name: &str) -> String {
    let bare = name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if bare { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn shortened_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
