//! Compares a file with its copies. Only the file is read, so a copy must not differ from it.

use super::Chain;
use crate::audit::files::Segment;

impl Chain<'_> {
    pub(super) fn compare_with_copies(&mut self, original: &Segment) {
        original.copies().for_each(|copy| self.compare(original, &copy));
    }

    fn compare(&mut self, original: &Segment, copy: &Segment) {
        let (Ok(lines), Ok(copied)) = (original.lines(), copy.lines()) else {
            return self.fault(copy, None, "cannot be compared with its original");
        };
        let mut lines = lines.map_while(Result::ok);
        // Copying may be in progress, so the copy must match the beginning of the original.
        for line in copied.map_while(Result::ok).filter(|line| line.whole) {
            if lines.next().is_none_or(|original| original.hash() != line.hash()) {
                let what = format!("differs from {}: one of them was changed", original.name());
                return self.fault(copy, line.number, what);
            }
        }
        self.note(copy, None, format!("is not read: it is a copy of {}", original.name()));
    }
}
