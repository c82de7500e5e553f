//! Compares a file with its compressed copy. Only the file is read, so the copy must not differ from it.

use super::Chain;
use crate::audit::files::Segment;

impl Chain<'_> {
    pub(super) fn compare_with_copy(&mut self, original: &Segment) {
        let Some(copy) = original.copied() else { return };
        let (Ok(lines), Ok(copied)) = (original.lines(), copy.lines()) else {
            return self.fault(&copy, None, "cannot be compared with its original");
        };
        let mut lines = lines.map_while(Result::ok);
        // Compression may be in progress, so the copy must match the beginning of the original.
        for line in copied.map_while(Result::ok).filter(|line| line.whole) {
            if lines.next().is_none_or(|original| original.hash() != line.hash()) {
                let what = "differs from the uncompressed file of the same name: one of them was changed";
                return self.fault(&copy, line.number, what);
            }
        }
        self.note(&copy, None, "is not read: the uncompressed file still exists");
    }
}
