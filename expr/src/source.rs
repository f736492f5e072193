//! An expression's text and tokens, and where in the text a sub-expression stands.
//!
//! `sqlparser` knows the span of every identifier and literal, but drops those of parentheses, keywords and operators around them. The
//! tokens around a known span give them back, so that an error underlines `(a + b)` and not `a + b`.

use std::ops::Range;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

/// A token and the bytes it covers.
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) span: Range<usize>,
}

impl Lexeme {
    /// Whether it is this keyword, not in quotes.
    pub(crate) fn is(&self, keyword: Keyword) -> bool {
        matches!(&self.token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
    }
}

/// `sqlparser` counts lines and characters from 1; we count bytes.
pub(crate) struct Offsets {
    /// The byte of each character, and the length of the text.
    characters: Vec<usize>,
    /// The first character of each line.
    lines: Vec<usize>,
}

impl Offsets {
    pub(crate) fn new(text: &str) -> Self {
        let mut lines = vec![0];
        let mut characters = Vec::with_capacity(text.len() + 1);
        for (number, (byte, character)) in text.char_indices().enumerate() {
            characters.push(byte);
            if character == '\n' {
                lines.push(number + 1);
            }
        }
        characters.push(text.len());
        Self { characters, lines }
    }

    /// The byte at a location; the end of the text when there is none.
    pub(crate) fn byte(&self, at: Location) -> usize {
        let end = self.characters.last().copied().unwrap_or(0);
        let place = |n: u64| usize::try_from(n).ok()?.checked_sub(1);
        let line = place(at.line).and_then(|line| self.lines.get(line));
        let found = line.zip(place(at.column)).and_then(|(line, column)| self.characters.get(line + column));
        found.copied().unwrap_or(end)
    }

    pub(crate) fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        start..self.byte(span.end).max(start)
    }
}

/// The text with its tokens, white space and comments left out.
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) lexemes: Vec<Lexeme>,
    offsets: Offsets,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str, offsets: Offsets, tokens: &[TokenWithSpan]) -> Self {
        let lexemes = tokens
            .iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .map(|token| Lexeme { token: token.token.clone(), span: offsets.range(token.span) })
            .collect();
        Self { text, lexemes, offsets }
    }

    pub(crate) fn range(&self, span: Span) -> Range<usize> {
        self.offsets.range(span)
    }

    pub(crate) fn whole(&self) -> Range<usize> {
        let start = self.lexemes.first().map_or(0, |first| first.span.start);
        start..self.lexemes.last().map_or(self.text.len(), |last| last.span.end)
    }

    /// The text of a span.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// The tokens before a byte, nearest first.
    fn before(&self, byte: usize) -> impl Iterator<Item = &Lexeme> {
        let count = self.lexemes.partition_point(|lexeme| lexeme.span.end <= byte);
        self.lexemes.iter().take(count).rev()
    }

    /// The tokens after a byte, nearest first.
    pub(crate) fn after(&self, byte: usize) -> impl Iterator<Item = &Lexeme> {
        let first = self.lexemes.partition_point(|lexeme| lexeme.span.start < byte);
        self.lexemes.iter().skip(first)
    }

    /// The span with the `tokens` tokens before it.
    pub(crate) fn with_before(&self, span: Range<usize>, tokens: usize) -> Range<usize> {
        let start = self.before(span.start).take(tokens).last().map_or(span.start, |lexeme| lexeme.span.start);
        start..span.end
    }

    /// The span with the `tokens` tokens after it.
    pub(crate) fn with_after(&self, span: Range<usize>, tokens: usize) -> Range<usize> {
        let end = self.after(span.end).take(tokens).last().map_or(span.end, |lexeme| lexeme.span.end);
        span.start..end
    }

    /// The span up to the parenthesis that closes around its end.
    pub(crate) fn to_closing(&self, span: Range<usize>) -> Range<usize> {
        let mut open = 0_usize;
        for lexeme in self.after(span.end) {
            match lexeme.token {
                Token::LParen => open += 1,
                Token::RParen if open == 0 => return span.start..lexeme.span.end,
                Token::RParen => open -= 1,
                _ => {}
            }
        }
        span
    }

    /// The span of `name(...)`, given that of the name.
    pub(crate) fn call(&self, name: Range<usize>) -> Range<usize> {
        match self.after(name.end).next() {
            Some(open) if open.token == Token::LParen => self.to_closing(name.start..open.span.end),
            _ => name,
        }
    }
}
