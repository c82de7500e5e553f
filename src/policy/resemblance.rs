//! Paths that some server may take for another path.

/// The parts of a path as a lenient server reads them: decoded, lower-case, without parameters, empty parts, `.` and
/// `..`. Two paths that any server takes for the same have the same parts; the reverse need not hold.
pub(super) fn parts(path: &str) -> Vec<String> {
    let mut plain = path.split(['?', '#']).next().unwrap_or_default().as_bytes().to_vec();
    // Decoded repeatedly, because some hop may decode more than once.
    for _ in 0..3 {
        match unescaped(&plain) {
            Some(further) => plain = further,
            None => break,
        }
    }
    let plain = String::from_utf8_lossy(&plain).to_ascii_lowercase();
    let mut parts = Vec::new();
    for part in plain.split(['/', '\\']) {
        // `;` starts a parameter of a part; some servers stop reading at a NUL or a space.
        match part.split([';', '\0']).next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name.to_owned()),
        }
    }
    parts
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut rest, mut any) = (Vec::with_capacity(text.len()), text, false);
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high << 4 | low) as u8);
                rest = &after[2..];
                any = true;
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    any.then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_lenient_server_treats_alike_have_equal_parts() {
        for path in [
            "/a/b/c",
            "/A/b/C/",
            "//a//b/./c",
            "/a/x/../b/c",
            "/a/%62/c",
            "/a/%2562/c",
            "/a%2fb/c",
            "/a\\b\\c",
            "/a;x=1/b;y/c",
            "/a/b/c%00.json",
            "/a/b/c?d=/e",
            "/../a/b/c%20",
        ] {
            assert_eq!(parts(path), ["a", "b", "c"], "{path}");
        }
        assert_ne!(parts("/a/b"), parts("/a/b/c"));
        assert_eq!(parts("/"), [""; 0]);
    }
}
