//! The columnar evaluator against one that takes a row at a time and is too simple to be wrong; and nonsense that must not panic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands, its helpers too")]

mod common;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use pipeline_contract::{ColumnType, schema};
use pipeline_expr::Expr;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum V {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// An expression that is well typed by construction.
#[derive(Clone, Debug)]
enum E {
    Column(&'static str),
    Literal(V, ColumnType),
    Binary(&'static str, Box<E>, Box<E>),
    Not(Box<E>),
    Negate(Box<E>),
    Is(Box<E>, &'static str),
    Between(Box<E>, Box<E>, Box<E>, bool),
    In(Box<E>, Vec<E>, bool),
    Case(Vec<(E, E)>, Option<Box<E>>),
    Call(&'static str, Vec<E>),
    /// CAST to text.
    Text(Box<E>),
}

impl E {
    fn sql(&self) -> String {
        let list = |items: &[E]| items.iter().map(E::sql).collect::<Vec<_>>().join(", ");
        match self {
            E::Column(name) => (*name).to_owned(),
            E::Literal(V::Null, ty) => format!("CAST(NULL AS {ty})"),
            E::Literal(V::Bool(value), _) => value.to_string().to_uppercase(),
            E::Literal(V::Int(value), _) => format!("({value})"),
            E::Literal(V::Float(value), _) => format!("({value:?})"),
            E::Literal(V::Text(value), _) => format!("'{}'", value.replace('\'', "''")),
            E::Binary(op, a, b) => format!("({} {op} {})", a.sql(), b.sql()),
            E::Not(a) => format!("(NOT {})", a.sql()),
            E::Negate(a) => format!("(- {})", a.sql()),
            E::Is(a, what) => format!("({} IS {what})", a.sql()),
            E::Between(a, low, high, negated) => {
                format!("({} {}BETWEEN {} AND {})", a.sql(), if *negated { "NOT " } else { "" }, low.sql(), high.sql())
            }
            E::In(a, items, negated) => format!("({} {}IN ({}))", a.sql(), if *negated { "NOT " } else { "" }, list(items)),
            E::Case(branches, otherwise) => {
                let branches: String = branches.iter().map(|(when, then)| format!(" WHEN {} THEN {}", when.sql(), then.sql())).collect();
                let otherwise = otherwise.as_ref().map_or(String::new(), |value| format!(" ELSE {}", value.sql()));
                format!("CASE{branches}{otherwise} END")
            }
            E::Call(name, items) => format!("{name}({})", list(items)),
            E::Text(a) => format!("CAST({} AS TEXT)", a.sql()),
        }
    }

    /// Whether its type is float.
    fn is_float(&self) -> bool {
        match self {
            E::Column(name) => matches!(*name, "f" | "g"),
            E::Literal(_, ty) => *ty == ColumnType::Float,
            E::Binary(op, a, b) => *op == "/" || (matches!(*op, "+" | "-" | "*" | "%") && (a.is_float() || b.is_float())),
            E::Negate(a) => a.is_float(),
            E::Case(branches, otherwise) => branches.iter().map(|(_, then)| then).chain(otherwise.as_deref()).any(E::is_float),
            E::Call("length", _) => false,
            E::Call(_, items) => items.iter().any(E::is_float),
            _ => false,
        }
    }

    /// The values of BETWEEN and IN are brought to one type before any of them is compared.
    fn eval_all(items: &[&E], row: &Row) -> Vec<V> {
        let floats = items.iter().any(|item| item.is_float());
        let value = |item: &&E| match item.eval(row) {
            V::Int(value) if floats => V::Float(value as f64),
            other => other,
        };
        items.iter().map(value).collect()
    }

    fn eval(&self, row: &Row) -> V {
        match self {
            E::Column(name) => row.get(name),
            E::Literal(value, _) => value.clone(),
            E::Binary("AND", a, b) => and(a.eval(row), b.eval(row)),
            E::Binary("OR", a, b) => not(and(not(a.eval(row)), not(b.eval(row)))),
            E::Binary("IS DISTINCT FROM", a, b) => match (a.eval(row), b.eval(row)) {
                (V::Null, V::Null) => V::Bool(false),
                (V::Null, _) | (_, V::Null) => V::Bool(true),
                (a, b) => compare("<>", &a, &b),
            },
            E::Binary(op @ ("=" | "<>" | "<" | "<=" | ">" | ">="), a, b) => compare(op, &a.eval(row), &b.eval(row)),
            E::Binary("||", a, b) => match (a.eval(row), b.eval(row)) {
                (V::Text(a), V::Text(b)) => V::Text(a + &b),
                _ => V::Null,
            },
            E::Binary(op, a, b) => arithmetic(op, &a.eval(row), &b.eval(row)),
            E::Not(a) => not(a.eval(row)),
            E::Negate(a) => match a.eval(row) {
                V::Int(a) => a.checked_neg().map_or(V::Null, V::Int),
                V::Float(a) => V::Float(-a),
                _ => V::Null,
            },
            E::Is(a, what) => match (a.eval(row), *what) {
                (V::Null, "NULL") => V::Bool(true),
                (_, "NULL") => V::Bool(false),
                (V::Null, "NOT NULL") => V::Bool(false),
                (_, "NOT NULL") => V::Bool(true),
                (value, "TRUE") => V::Bool(matches!(value, V::Bool(true))),
                (value, "NOT TRUE") => V::Bool(!matches!(value, V::Bool(true))),
                (value, "FALSE") => V::Bool(matches!(value, V::Bool(false))),
                (value, _) => V::Bool(!matches!(value, V::Bool(false))),
            },
            E::Between(a, low, high, negated) => {
                let values = E::eval_all(&[a, low, high], row);
                let both = and(compare(">=", &values[0], &values[1]), compare("<=", &values[0], &values[2]));
                if *negated { not(both) } else { both }
            }
            E::In(a, items, negated) => {
                let all: Vec<&E> = std::iter::once(&**a).chain(items).collect();
                let values = E::eval_all(&all, row);
                let any = values[1..].iter().fold(V::Bool(false), |any, item| not(and(not(any), not(compare("=", &values[0], item)))));
                if *negated { not(any) } else { any }
            }
            E::Case(branches, otherwise) => {
                let taken = branches.iter().find(|(when, _)| matches!(when.eval(row), V::Bool(true))).map(|(_, then)| then);
                taken.or(otherwise.as_deref()).map_or(V::Null, |value| value.eval(row))
            }
            E::Call(name, items) => call(name, items.iter().map(|item| item.eval(row)).collect()),
            E::Text(a) => match a.eval(row) {
                V::Null => V::Null,
                V::Bool(value) => V::Text(value.to_string()),
                V::Int(value) => V::Text(value.to_string()),
                V::Float(_) => unreachable!("not generated"),
                text => text,
            },
        }
    }
}

fn and(a: V, b: V) -> V {
    match (a, b) {
        (V::Bool(false), _) | (_, V::Bool(false)) => V::Bool(false),
        (V::Bool(true), V::Bool(true)) => V::Bool(true),
        _ => V::Null,
    }
}

fn not(a: V) -> V {
    if let V::Bool(a) = a { V::Bool(!a) } else { V::Null }
}

fn compare(op: &str, a: &V, b: &V) -> V {
    fn answer<T: PartialOrd>(op: &str, a: T, b: T) -> V {
        V::Bool(match op {
            "=" => a == b,
            "<>" => a != b,
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            _ => a >= b,
        })
    }
    match (a, b) {
        (V::Null, _) | (_, V::Null) => V::Null,
        (V::Bool(a), V::Bool(b)) => answer(op, a, b),
        (V::Int(a), V::Int(b)) => answer(op, a, b),
        (V::Text(a), V::Text(b)) => answer(op, a, b),
        (a, b) => answer(op, float(a), float(b)),
    }
}

fn float(value: &V) -> f64 {
    match value {
        V::Int(value) => *value as f64,
        V::Float(value) => *value,
        other => unreachable!("{other:?}"),
    }
}

fn arithmetic(op: &str, a: &V, b: &V) -> V {
    match (a, b) {
        (V::Null, _) | (_, V::Null) => V::Null,
        (V::Int(a), V::Int(b)) if op != "/" => {
            let (a, b) = (i128::from(*a), i128::from(*b));
            let wide = match op {
                "+" => Some(a + b),
                "-" => Some(a - b),
                "*" => Some(a * b),
                _ => (b != 0).then(|| a % b),
            };
            wide.and_then(|wide| i64::try_from(wide).ok()).map_or(V::Null, V::Int)
        }
        (a, b) => {
            let (a, b) = (float(a), float(b));
            V::Float(match op {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" => a / b,
                _ => a % b,
            })
        }
    }
}

fn call(name: &str, items: Vec<V>) -> V {
    match (name, items.as_slice()) {
        ("coalesce", items) => items.iter().find(|item| !matches!(item, V::Null)).cloned().unwrap_or(V::Null),
        ("nullif", [a, b]) => {
            if matches!(compare("=", a, b), V::Bool(true)) {
                V::Null
            } else {
                a.clone()
            }
        }
        ("least" | "greatest", items) => {
            let mut best = V::Null;
            for item in items.iter().filter(|item| !matches!(item, V::Null)) {
                let better = compare(if name == "least" { "<" } else { ">" }, item, &best);
                let nan = matches!(item, V::Float(item) if item.is_nan());
                let stuck = matches!(&best, V::Float(best) if best.is_nan());
                if matches!(better, V::Null | V::Bool(true)) && !stuck || nan {
                    best = item.clone();
                }
            }
            best
        }
        ("upper", [V::Text(a)]) => V::Text(a.to_uppercase()),
        ("length", [V::Text(a)]) => V::Int(a.chars().count() as i64),
        ("abs", [V::Int(a)]) => a.checked_abs().map_or(V::Null, V::Int),
        ("abs", [V::Float(a)]) => V::Float(a.abs()),
        (_, _) => V::Null,
    }
}

#[derive(Clone, Debug)]
struct Row {
    i: Option<i64>,
    j: i64,
    f: Option<f64>,
    g: f64,
    b: Option<bool>,
    s: Option<String>,
}

impl Row {
    fn get(&self, name: &str) -> V {
        match name {
            "i" => self.i.map_or(V::Null, V::Int),
            "j" => V::Int(self.j),
            "f" => self.f.map_or(V::Null, V::Float),
            "g" => V::Float(self.g),
            "b" => self.b.map_or(V::Null, V::Bool),
            _ => self.s.clone().map_or(V::Null, V::Text),
        }
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let schema = schema([
        ("i", ColumnType::Integer, true),
        ("j", ColumnType::Integer, false),
        ("f", ColumnType::Float, true),
        ("g", ColumnType::Float, false),
        ("b", ColumnType::Boolean, true),
        ("s", ColumnType::Text, true),
    ]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.i).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.j)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.g)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.b).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.s.clone()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema, arrays).unwrap()
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..4_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => any::<i64>()]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => (-6..7).prop_map(|n| f64::from(n) / 2.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-0.0)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("a".to_owned()), Just("b'%".to_owned()), Just("ä_Z".to_owned())]
}

fn row() -> impl Strategy<Value = Row> {
    use prop::option::of;
    (of(integer()), integer(), of(number()), number(), of(any::<bool>()), of(text())).prop_map(|(i, j, f, g, b, s)| Row { i, j, f, g, b, s })
}

/// What makes a node of a type: the strategies of each type, one level lower.
#[derive(Clone)]
struct Lower {
    boolean: BoxedStrategy<E>,
    integer: BoxedStrategy<E>,
    float: BoxedStrategy<E>,
    text: BoxedStrategy<E>,
}

fn leaves() -> Lower {
    let literal = |ty: ColumnType| move |value: Option<V>| E::Literal(value.unwrap_or(V::Null), ty);
    let finite = number().prop_filter("SQL has no literal for it", |x| x.is_finite());
    Lower {
        boolean: prop_oneof![Just(E::Column("b")), prop::option::of(any::<bool>().prop_map(V::Bool)).prop_map(literal(ColumnType::Boolean))].boxed(),
        integer: prop_oneof![
            2 => Just(E::Column("i")),
            2 => Just(E::Column("j")),
            1 => prop::option::weighted(0.9, integer().prop_map(V::Int)).prop_map(literal(ColumnType::Integer))
        ]
        .boxed(),
        float: prop_oneof![
            2 => Just(E::Column("f")),
            2 => Just(E::Column("g")),
            1 => prop::option::weighted(0.9, finite.prop_map(V::Float)).prop_map(literal(ColumnType::Float))
        ]
        .boxed(),
        text: prop_oneof![Just(E::Column("s")), prop::option::weighted(0.9, text().prop_map(V::Text)).prop_map(literal(ColumnType::Text))].boxed(),
    }
}

fn higher(low: Lower) -> Lower {
    use prop::collection::vec;
    use prop::sample::select;
    let b = |e: E| Box::new(e);
    let any_number = prop_oneof![low.integer.clone(), low.float.clone()].boxed();
    let pair = |of: &BoxedStrategy<E>| (of.clone(), of.clone()).boxed();
    let comparable = prop_oneof![pair(&any_number), pair(&low.text), pair(&low.boolean)];
    let when = low.boolean.clone();
    let case = move |of: &BoxedStrategy<E>| {
        (vec((when.clone(), of.clone()), 1..3), prop::option::of(of.clone()))
            .prop_map(move |(branches, otherwise)| E::Case(branches, otherwise.map(b)))
    };
    let several =
        |of: &BoxedStrategy<E>| (select(vec!["coalesce", "least", "greatest"]), vec(of.clone(), 1..4)).prop_map(|(name, items)| E::Call(name, items));
    let nullif = |of: &BoxedStrategy<E>| (of.clone(), of.clone()).prop_map(|(a, b)| E::Call("nullif", vec![a, b]));
    let (of_boolean, of_integer, of_float, of_text) = (case(&low.boolean), case(&low.integer), case(&low.float), case(&low.text));
    let items = prop_oneof![
        (any_number.clone(), vec(any_number.clone(), 1..12)),
        (low.text.clone(), vec(low.text.clone(), 1..4)),
        (low.boolean.clone(), vec(low.boolean.clone(), 1..3))
    ];
    Lower {
        boolean: prop_oneof![
            1 => low.boolean.clone(),
            3 => (select(vec!["AND", "OR"]), low.boolean.clone(), low.boolean.clone()).prop_map(move |(op, x, y)| E::Binary(op, b(x), b(y))),
            4 => (select(vec!["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"]), comparable).prop_map(move |(op, (x, y))| E::Binary(op, b(x), b(y))),
            1 => low.boolean.clone().prop_map(move |x| E::Not(b(x))),
            1 => (low.boolean.clone(), select(vec!["NULL", "NOT NULL", "TRUE", "NOT TRUE", "FALSE", "NOT FALSE"])).prop_map(move |(x, what)| E::Is(b(x), what)),
            1 => (low.text.clone(), select(vec!["NULL", "NOT NULL"])).prop_map(move |(x, what)| E::Is(b(x), what)),
            1 => (any_number.clone(), any_number.clone(), any_number, any::<bool>()).prop_map(move |(x, y, z, no)| E::Between(b(x), b(y), b(z), no)),
            1 => (items, any::<bool>()).prop_map(move |((x, items), no)| E::In(b(x), items, no)),
            1 => several(&low.boolean),
            1 => of_boolean,
        ]
        .boxed(),
        integer: prop_oneof![
            1 => low.integer.clone(),
            3 => (select(vec!["+", "-", "*", "%"]), low.integer.clone(), low.integer.clone()).prop_map(move |(op, x, y)| E::Binary(op, b(x), b(y))),
            1 => low.integer.clone().prop_map(move |x| E::Negate(b(x))),
            1 => low.integer.clone().prop_map(|x| E::Call("abs", vec![x])),
            1 => low.text.clone().prop_map(|x| E::Call("length", vec![x])),
            1 => several(&low.integer),
            1 => nullif(&low.integer),
            1 => of_integer,
        ]
        .boxed(),
        float: prop_oneof![
            1 => low.float.clone(),
            2 => (select(vec!["+", "-", "*", "/", "%"]), low.float.clone(), low.integer.clone()).prop_map(move |(op, x, y)| E::Binary(op, b(x), b(y))),
            2 => (select(vec!["+", "-", "*", "/", "%"]), low.float.clone(), low.float.clone()).prop_map(move |(op, x, y)| E::Binary(op, b(x), b(y))),
            1 => (low.integer.clone(), low.integer.clone()).prop_map(move |(x, y)| E::Binary("/", b(x), b(y))),
            1 => low.float.clone().prop_map(move |x| E::Negate(b(x))),
            1 => low.float.clone().prop_map(|x| E::Call("abs", vec![x])),
            2 => several(&low.float),
            1 => nullif(&low.float),
            1 => of_float,
        ]
        .boxed(),
        text: prop_oneof![
            1 => low.text.clone(),
            2 => (low.text.clone(), low.text.clone()).prop_map(move |(x, y)| E::Binary("||", b(x), b(y))),
            1 => low.text.clone().prop_map(|x| E::Call("upper", vec![x])),
            1 => low.integer.prop_map(move |x| E::Text(b(x))),
            1 => several(&low.text),
            1 => nullif(&low.text),
            1 => of_text,
        ]
        .boxed(),
    }
}

fn expression() -> impl Strategy<Value = E> {
    let two = higher(higher(leaves()));
    let three = higher(two.clone());
    prop_oneof![two.boolean, two.integer, two.float, two.text, three.boolean]
}

fn same(found: &ArrayRef, row: usize, expected: &V) -> bool {
    let any = found.as_any();
    match expected {
        V::Null => found.is_null(row),
        _ if found.is_null(row) => false,
        V::Bool(x) => any.downcast_ref::<BooleanArray>().is_some_and(|array| array.value(row) == *x),
        V::Int(x) => match any.downcast_ref::<Int64Array>() {
            Some(array) => array.value(row) == *x,
            // An integer that stands beside a float.
            None => any.downcast_ref::<Float64Array>().is_some_and(|array| array.value(row) == *x as f64),
        },
        V::Float(x) => any.downcast_ref::<Float64Array>().is_some_and(|array| array.value(row) == *x || (array.value(row).is_nan() && x.is_nan())),
        V::Text(x) => any.downcast_ref::<StringArray>().is_some_and(|array| array.value(row) == x),
    }
}

/// Words an expression is made of, and a few that it is not.
fn nonsense() -> impl Strategy<Value = String> {
    let words = "s f n b t price \"coin id\" 1 2.5 'x' '2026-01-01' ( ) ( ) , + - * / % || = <> < AND OR NOT IN IS NULL LIKE BETWEEN CASE WHEN THEN ELSE \
                 END CAST( AS FLOAT INTEGER TEXT TRY_CAST( TIMESTAMP INTERVAL HOUR abs( round( coalesce( concat( if( substr( date_trunc( 'day' \
                 regexp_matches( least( DISTINCT FROM TRUE ESCAPE SELECT ORDER BY [ ] { } . :: == ; \" ' -- /* @ $1 ? \u{e9} \n EXISTS( POSITION( \
                 ARRAY[ STRUCT( MAP{ X'00' N'x' OVERLAY( EXTRACT( CONVERT( trim( floor( DATE current_date USER OVER FILTER( ANY( ALL( COLLATE AT TIME ZONE";
    let words: Vec<&'static str> = words.split(' ').filter(|word| !word.is_empty()).collect();
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|words| words.join(" "))
}

fn harmless(text: &str) {
    match common::compile(text) {
        Ok(expr) => drop(expr.evaluate_each(&common::batch()).unwrap()),
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(text.get(fault.span.clone()).is_some(), "{text:?}: {fault:?}");
                assert!(!fault.message.contains("please report"), "{text:?}: {fault:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn columns_and_rows_agree(expression in expression(), rows in prop::collection::vec(row(), 0..70)) {
        let sql = expression.sql();
        let batch = batch(&rows);
        let compiled = match Expr::compile(&sql, &batch.schema()) {
            Ok(compiled) => compiled,
            Err(faults) => return Err(TestCaseError::fail(format!("{sql}: {faults:?}"))),
        };
        let found = compiled.evaluate(&batch).unwrap();
        prop_assert_eq!(found.len(), rows.len());
        prop_assert!(compiled.nullable() || found.null_count() == 0, "{} promised no nulls", sql);
        for (number, row) in rows.iter().enumerate() {
            let expected = expression.eval(row);
            prop_assert!(same(&found, number, &expected), "{} on {:?}: expected {:?}, row {} of {:?}", sql, row, expected, number, found);
        }
    }

    #[test]
    fn any_text_is_harmless(text in any::<String>()) {
        harmless(&text);
    }

    #[test]
    fn any_words_are_harmless(text in nonsense()) {
        harmless(&text);
    }

    #[test]
    fn a_damaged_expression_is_harmless(expression in expression(), at in any::<prop::sample::Index>(), with in "[ ()',.=a1\"-]{0,3}") {
        let mut text = expression.sql();
        let mut place = at.index(text.len() + 1);
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        text.insert_str(place, &with);
        harmless(&text);
    }
}
