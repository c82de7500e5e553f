//! The shape of a date: its text with every digit replaced.

/// A text with `d` in place of every digit.
pub(super) struct Shape(String);

/// A part of a shape.
pub(super) struct Part<'s>(&'s str);

impl Shape {
    pub(super) fn of(text: &str) -> Self {
        let sign = |byte: u8| match byte {
            b'0'..=b'9' => 'd',
            // A letter `d` or a non-ASCII byte must not look like a digit.
            b'd' | 0x80.. => '?',
            byte => char::from(byte),
        };
        Self(text.bytes().map(sign).collect())
    }

    pub(super) fn is(&self, shape: &str) -> bool {
        self.0 == shape
    }

    pub(super) fn begins(&self, shape: &str) -> bool {
        self.0.starts_with(shape)
    }

    pub(super) fn has_at(&self, at: usize, shape: &str) -> bool {
        self.0.get(at..).is_some_and(|rest| rest.starts_with(shape))
    }

    pub(super) fn find(&self, shape: &str) -> Option<usize> {
        self.0.find(shape)
    }

    /// Whether there are seconds: a `:` follows the minutes.
    pub(super) fn has_seconds(&self) -> bool {
        self.0.as_bytes().get(16) == Some(&b':')
    }

    /// Where the zone belongs: after minutes, seconds and fraction.
    pub(super) fn zone_at(&self) -> usize {
        let bytes = self.0.as_bytes();
        if !self.has_seconds() {
            return bytes.len().min(16);
        }
        let fraction = bytes.get(19..).unwrap_or_default();
        match fraction {
            [b'.', digits @ ..] => 20 + digits.iter().take_while(|byte| **byte == b'd').count(),
            _ => bytes.len().min(19),
        }
    }

    pub(super) fn from(&self, at: usize) -> Part<'_> {
        Part(&self.0[at..])
    }
}

impl Part<'_> {
    pub(super) fn is(&self, shape: &str) -> bool {
        self.0 == shape
    }

    pub(super) fn begins(&self, shape: &str) -> bool {
        self.0.starts_with(shape)
    }

    /// A sign followed by this shape.
    pub(super) fn is_sign_and(&self, shape: &str) -> bool {
        self.0.strip_prefix(['+', '-']) == Some(shape)
    }
}
