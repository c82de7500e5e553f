//! What can be said of a query without a database: its parameters, its columns where they are written out, and that it stays
//! within the parentheses that it is put into.

/// What is wrong with a query of the owner of a segment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StatementError {
    #[error("begins with none of select, with, values and table")]
    NoQuery,
    #[error("has no $1, which is the segment's id")]
    NoParameter,
    #[error("has the parameter ${0}; there is only $1, which is the segment's id")]
    OtherParameter(String),
    #[error("has a `;`: it holds more than one statement")]
    SeveralStatements,
    #[error("has parentheses or brackets that do not match")]
    Unbalanced,
    #[error("has a text, a name in quotes or a comment without its end")]
    Unended,
    #[error("selects {0} columns, not two: the account and the creator")]
    Columns(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'q> {
    Word(&'q str),
    Parameter(&'q str),
    Quoted,
    Open,
    Close,
    Mark(u8),
}

/// Whether the query has exactly one parameter and, where that can be seen, two columns.
pub(super) fn judge(query: &str) -> Result<(), StatementError> {
    let tokens = tokens(query)?;
    let mut depth = 0_usize;
    for token in &tokens {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1).ok_or(StatementError::Unbalanced)?,
            Token::Mark(b';') => return Err(StatementError::SeveralStatements),
            Token::Parameter(number) if *number != "1" => {
                return Err(StatementError::OtherParameter((*number).to_owned()));
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(StatementError::Unbalanced);
    }
    let first = tokens.iter().find(|token| **token != Token::Open);
    if !first.is_some_and(|token| ["select", "with", "values", "table"].iter().any(|word| is(token, word))) {
        return Err(StatementError::NoQuery);
    }
    if !tokens.contains(&Token::Parameter("1")) {
        return Err(StatementError::NoParameter);
    }
    match columns(&tokens) {
        None | Some(2) => Ok(()),
        Some(other) => Err(StatementError::Columns(other)),
    }
}

/// How many columns a plain `select` has; `None` if it cannot be seen.
fn columns(tokens: &[Token<'_>]) -> Option<usize> {
    const ENDS: [&str; 14] = [
        "from",
        "where",
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "order",
        "limit",
        "offset",
        "fetch",
        "for",
        "into",
    ];
    if !is(tokens.first()?, "select") || tokens.get(1).is_some_and(|token| is(token, "distinct")) {
        return None;
    }
    let (mut depth, mut columns) = (0, 1);
    for (before, token) in tokens.iter().zip(&tokens[1..]) {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ if depth > 0 => {}
            Token::Mark(b',') => columns += 1,
            // All columns of a table, unless it is a product.
            Token::Mark(b'*') if matches!(before, Token::Mark(b',' | b'.')) || is(before, "select") => return None,
            Token::Word(_) if ["as", "distinct", "within"].iter().any(|word| is(before, word)) => {}
            Token::Word(_) if ENDS.iter().any(|word| is(token, word)) => break,
            _ => {}
        }
    }
    Some(columns)
}

fn is(token: &Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

fn tokens(query: &str) -> Result<Vec<Token<'_>>, StatementError> {
    let bytes = query.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &query[at..];
        let (token, length) = match byte {
            _ if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => (None, comment(rest)?),
            b'\'' => {
                // E'…' has escapes.
                let escapes = matches!(tokens.last(), Some(Token::Word("E" | "e")))
                    && matches!(bytes.get(at.wrapping_sub(1)), Some(b'E' | b'e'));
                (Some(Token::Quoted), quoted(rest, b'\'', escapes)?)
            }
            b'"' => (Some(Token::Quoted), quoted(rest, b'"', false)?),
            b'$' => match rest[1..].bytes().take_while(u8::is_ascii_digit).count() {
                0 => (Some(Token::Quoted), dollar_quoted(rest)?),
                digits => (Some(Token::Parameter(&rest[1..=digits])), 1 + digits),
            },
            b'(' | b'[' => (Some(Token::Open), 1),
            b')' | b']' => (Some(Token::Close), 1),
            b' ' | b'\t' | b'\r' | b'\n' | 0x0c => (None, 1),
            _ if is_of_a_word(byte) => {
                let length = rest.bytes().take_while(|byte| is_of_a_word(*byte) || *byte == b'$').count();
                (Some(Token::Word(&rest[..length])), length)
            }
            mark => (Some(Token::Mark(mark)), 1),
        };
        tokens.extend(token);
        at += length;
    }
    Ok(tokens)
}

/// Letters of other alphabets are of a word, too, so every position above is between two characters.
fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a text in these quotes; a doubled quote is part of it.
fn quoted(text: &str, quote: u8, escapes: bool) -> Result<usize, StatementError> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return Err(StatementError::Unended),
            Some(b'\\') if escapes => at += 2,
            Some(byte) if *byte == quote => {
                if bytes.get(at + 1) != Some(&quote) {
                    return Ok(at + 1);
                }
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
}

/// The length of `$tag$…$tag$`.
fn dollar_quoted(text: &str) -> Result<usize, StatementError> {
    let tag = 2 + text[1..].find('$').ok_or(StatementError::Unended)?;
    let end = text[tag..].find(&text[..tag]).ok_or(StatementError::Unended)?;
    Ok(end + 2 * tag)
}

/// The length of a comment, which may hold others.
fn comment(text: &str) -> Result<usize, StatementError> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let next = text[at..].find(['/', '*']).ok_or(StatementError::Unended)?;
        at += next;
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StatementError::{Columns, NoParameter, NoQuery, OtherParameter, SeveralStatements, Unbalanced, Unended};

    #[test]
    fn queries_of_one_parameter_and_two_columns_pass() {
        for query in [
            "select account_id, owner_id from segment where id = $1",
            "SELECT a.account, m.id FROM segment s JOIN account a USING (x, y, z) WHERE s.id=$1::uuid LIMIT 1",
            "select s.account_id, s.owner_id from segment s -- by $2; or (not\nwhere s.id = $1",
            "select /* a, b, /* c; */ ) */ account, owner from segment where id = $1",
            "select account, coalesce(owner, 'it''s; $2 (', E'\\';', $$ ) $3 $$, $t$ ; $$ $t$) from segment where id = $1",
            "select account, \"owner, or; so\" from segment where id = $1 and kind is distinct from 'x'",
            "select a is distinct from b, percentile_disc(0.5) within group (order by x, y) from t where id = $1",
            "select extract(year from x), array[1, 2, 3] from t where id = $1",
            "select account * 2, owner as from from segment where id = $1",
            "select * from owner_of($1)",
            "select s.* from segment s where id = $1",
            "select distinct on (id) account, owner from segment where id = $1",
            "with it as (select * from segment where id = $1) select account, owner from it",
            "(select account, owner from segment where id = $1)",
            "values ($1, 'b')",
            "select 계정, 작성자 from segment where id = $1",
            "select account, owner from segment where id = $1 order by a, b, c",
        ] {
            assert_eq!(judge(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_query_is_named() {
        for (query, wrong) in [
            ("", NoQuery),
            ("delete from segment where id = $1", NoQuery),
            ("select account, owner from segment", NoParameter),
            ("select account, owner from segment where id = '$1'", NoParameter),
            ("select account, owner from segment where id = $$ $1 $$", NoParameter),
            ("select account, owner from segment where id = a$1", NoParameter),
            ("select account, owner from segment where id = $1 and x = $2", OtherParameter("2".into())),
            ("select account, owner from segment where id = $12", OtherParameter("12".into())),
            ("select account, owner from segment where id = $1; drop table segment", SeveralStatements),
            ("select account, owner from segment where id = $1) union (select 1, 2", Unbalanced),
            ("select account, owner from segment where (id = $1", Unbalanced),
            ("select account, owner from segment where id = $1 and x = 'y", Unended),
            ("select account, owner from segment where id = $1 /* and", Unended),
            ("select account, owner from segment where id = $1 and x = $t$ $$", Unended),
            ("select account, \"owner from segment where id = $1", Unended),
            ("select account from segment where id = $1", Columns(1)),
            ("select id, account, f(a, b) from segment where id = $1", Columns(3)),
            ("select $1", Columns(1)),
        ] {
            assert_eq!(judge(query), Err(wrong), "{query}");
        }
    }
}
