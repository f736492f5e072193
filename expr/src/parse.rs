//! From text to a syntax tree: `sqlparser` behind limits, an allow-list of tokens, and messages of our own.

use sqlparser::ast::{self, Ident, ObjectName};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::error::ExprError;
use crate::source::{Offsets, Source};

/// The longest text of an expression, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// How deep parentheses, function calls and operators may nest.
pub const MAX_NESTING: usize = 50;

/// How many operators and keywords an expression may hold. Lists (`IN (1, 2, ...)`) are not limited by it.
///
/// `a OR b OR c ...` parses into a tree as deep as it is long, which `sqlparser` frees by recursion: this bounds that recursion.
pub const MAX_OPERATORS: usize = 10_000;

/// The stack for reading an expression, in bytes. `sqlparser` compiled without optimization takes 100 KiB a level, more than a thread
/// commonly has for [`MAX_NESTING`]; the memory is only touched when it is used.
pub(crate) const STACK: usize = 32 << 20;

/// SQL's scalar expressions and nothing of a vendor's.
#[derive(Debug)]
struct Scalars;

impl Dialect for Scalars {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }

    /// Without these a fault within `CASE ... END` would be told as one about a column `CASE`.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        has_own_syntax(keyword) || keyword == Keyword::INTERVAL
    }

    /// Reads `floor(x)`, `trim(x)`, `substr(x, 1)` as calls like any other, where `sqlparser` has a syntax of its own for each; and
    /// lets `interval` be a column.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<ast::Expr, ParserError>> {
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        if word.quote_style.is_some() {
            return None;
        }
        let keyword = word.keyword;
        if is_infix(keyword) {
            let found = parser.peek_token_ref();
            let message = format!("Expected: an expression, found: {found}{}", found.span.start);
            return Some(Err(ParserError::ParserError(message)));
        }
        match &parser.peek_nth_token_ref(1).token {
            Token::SingleQuotedString(_) | Token::Number(..) => None,
            Token::LParen if !has_own_syntax(keyword) => Some(identifier(parser).and_then(|name| {
                let name = ObjectName::from(vec![name]);
                parser.parse_function(name)
            })),
            _ if keyword == Keyword::INTERVAL => Some(identifier(parser).map(ast::Expr::Identifier)),
            _ => None,
        }
    }
}

fn identifier(parser: &mut Parser) -> Result<Ident, ParserError> {
    parser.parse_identifier()
}

/// Words that cannot start an expression unless in double quotes.
fn is_infix(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(keyword, K::AND | K::OR | K::IN | K::IS | K::LIKE | K::ILIKE | K::BETWEEN | K::WHEN | K::THEN | K::ELSE | K::AS | K::ESCAPE)
}

/// Words before `(` that are not the name of a function.
fn has_own_syntax(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(keyword, K::NOT | K::CASE | K::CAST | K::TRY_CAST | K::EXTRACT)
}

/// Reads the text. The syntax tree may hold what the language does not have: that is for the check to refuse.
pub(crate) fn parse(text: &str) -> Result<(ast::Expr, Source<'_>), Vec<ExprError>> {
    if text.len() > MAX_TEXT {
        let message = format!("the expression has {} bytes; the limit is {MAX_TEXT}", text.len());
        return Err(vec![ExprError::new(message, 0..text.len())]);
    }
    let offsets = Offsets::new(text);
    let tokens = Tokenizer::new(&Scalars, text).tokenize_with_location().map_err(|error| {
        let start = offsets.byte(error.location);
        let message = lower_first(&error.message);
        vec![ExprError::new(message, start..text.len())]
    })?;
    let source = Source::new(text, offsets, &tokens);
    if source.lexemes.is_empty() {
        return Err(vec![ExprError::new("the expression is empty", 0..text.len())]);
    }
    let refused = refuse(&source);
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut parser = Parser::new(&Scalars).with_recursion_limit(MAX_NESTING).with_tokens_with_locations(tokens);
    let tree = parser.parse_expr().map_err(|error| vec![translate(&source, error)])?;
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let span = source.range(next.span);
        let message = format!("unexpected `{}` after the end of the expression", source.slice(&span));
        return Err(vec![ExprError::new(message, span).help("an operator such as AND may be missing before it")]);
    }
    Ok((tree, source))
}

/// Tokens no expression has, each with what to write instead; and too many operators.
fn refuse(source: &Source<'_>) -> Vec<ExprError> {
    let mut errors = Vec::new();
    let mut operators = 0;
    for (index, lexeme) in source.lexemes.iter().enumerate() {
        let next = source.lexemes.get(index + 1);
        let fault = match &lexeme.token {
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Comma | Token::LParen | Token::RParen => None,
            Token::Word(word) if word.quote_style.is_some() => None,
            Token::Word(word) => {
                operators += usize::from(word.keyword != Keyword::NoKeyword);
                let called = next.is_some_and(|next| next.token == Token::LParen);
                match word.keyword {
                    Keyword::SELECT => Some(("subqueries are not supported", Some("an expression sees one row at a time"))),
                    Keyword::EXISTS if called => Some(("subqueries are not supported", Some("an expression sees one row at a time"))),
                    Keyword::OVER if called => Some(("window functions are not supported", Some("an expression sees one row at a time"))),
                    _ => None,
                }
            }
            Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat => {
                operators += 1;
                None
            }
            other => Some(foreign(other)),
        };
        if let Some((message, help)) = fault {
            let message = message.replace("{}", source.slice(&lexeme.span));
            errors.push(ExprError { message, span: lexeme.span.clone(), help: help.map(str::to_owned), replacement: None });
        }
    }
    if operators > MAX_OPERATORS {
        let message = format!("the expression has {operators} operators and keywords; the limit is {MAX_OPERATORS}");
        errors.push(ExprError::new(message, source.whole()).help("compare with a list: x IN (1, 2, ...)"));
    }
    errors
}

/// What to say of a token that other languages have: message, with `{}` for the token, and help.
fn foreign(token: &Token) -> (&'static str, Option<&'static str>) {
    match token {
        Token::DoubleEq => ("there is no operator `==`", Some("use `=`")),
        Token::Overlap => ("there is no operator `&&`", Some("use AND")),
        Token::ExclamationMark => ("there is no operator `!`", Some("use NOT")),
        Token::Spaceship => ("there is no operator `<=>`", Some("use IS NOT DISTINCT FROM")),
        Token::Caret => ("there is no operator `^`", Some("use power(x, y)")),
        Token::DoubleColon => ("there is no operator `::`", Some("use CAST(x AS type)")),
        Token::DuckIntDiv => ("there is no operator `//`", Some("use floor(a / b)")),
        Token::Tilde | Token::TildeAsterisk | Token::ExclamationMarkTilde => {
            ("there is no operator `{}`", Some("use regexp_matches(text, 'pattern')"))
        }
        Token::Period => ("names have no parts here", Some("a column whose name has a dot is written in double quotes: \"a.b\"")),
        Token::SemiColon => ("unexpected `;`", Some("an expression is not a statement")),
        Token::Char('`') => ("unexpected ```", Some("a name with special characters is written in double quotes: \"a b\"")),
        Token::DoubleQuotedString(_) => ("unexpected {}", Some("text is written in single quotes")),
        _ => ("`{}` has no meaning here", None),
    }
}

/// `sqlparser`'s message without its own prefix, and its location as bytes.
fn translate(source: &Source<'_>, error: ParserError) -> ExprError {
    let raw = match error {
        ParserError::RecursionLimitExceeded => {
            let message = format!("the expression nests deeper than {MAX_NESTING} levels");
            return ExprError::new(message, source.whole()).help("split it into several columns or rules");
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let (message, at) = match raw.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, location(place)),
        None => (raw.as_str(), None),
    };
    let end = source.text.trim_end().len();
    let start = at.map_or(end, |at| source.range(sqlparser::tokenizer::Span::new(at, at)).start);
    let span = match source.after(start).next() {
        Some(lexeme) => lexeme.span.clone(),
        None => end..end,
    };
    let message = match message.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the expression"),
        Some((expected, _)) => format!("expected {expected}, found `{}`", source.slice(&span)),
        None => lower_first(message),
    };
    ExprError::new(message, span)
}

/// Reads `3, Column: 7`.
fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location::new(line.parse().ok()?, column.parse().ok()?))
}

fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
