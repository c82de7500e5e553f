//! A record in several directories: gateways that write to directories of their own, and files that were copied or moved.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::files::{Instance, ReadError, Segment, list, misspelt};

/// Where the files of a record are: in one directory, or in several if gateways write to directories of their own or
/// older files were moved. A file may be in more than one of them.
#[derive(Clone, Debug)]
pub struct Directories(Vec<PathBuf>);

impl<P: AsRef<Path> + ?Sized> From<&P> for Directories {
    fn from(directory: &P) -> Self {
        Self(vec![directory.as_ref().to_owned()])
    }
}

impl FromIterator<PathBuf> for Directories {
    fn from_iter<I: IntoIterator<Item = PathBuf>>(all: I) -> Self {
        let mut directories: Vec<PathBuf> = Vec::new();
        let mut known = HashSet::new();
        for directory in all {
            // Two names of one directory are one directory. One that is not there is reported when it is read.
            if known.insert(directory.canonicalize().unwrap_or_else(|_| directory.clone())) {
                directories.push(directory);
            }
        }
        Self(directories)
    }
}

impl Directories {
    /// All files in them. Instances are sorted by the age of their first file.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub(super) fn list(&self) -> Result<Vec<Instance>, ReadError> {
        let [first, others @ ..] = &self.0[..] else { return Ok(Vec::new()) };
        let mut instances = list(first)?;
        for directory in others {
            for instance in list(directory)? {
                match instances.iter_mut().find(|known| known.id == instance.id) {
                    Some(known) => known.merge(instance),
                    None => instances.push(instance),
                }
            }
        }
        if !others.is_empty() {
            instances.iter_mut().flat_map(|instance| &mut instance.segments).for_each(Segment::choose);
            instances.sort_by_cached_key(Instance::started);
        }
        Ok(instances)
    }

    /// See [`misspelt`].
    pub(super) fn misspelt(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        for directory in &self.0 {
            let found = misspelt(directory)?;
            names.extend(match &self.0[..] {
                [_] => found,
                _ => found.iter().map(|name| directory.join(name).display().to_string()).collect(),
            });
        }
        Ok(names)
    }
}

impl Instance {
    /// Adds the files of the same process in another directory.
    fn merge(&mut self, other: Self) {
        self.live |= other.live;
        for mut segment in other.segments {
            match self.segments.binary_search_by_key(&segment.number, |known| known.number) {
                Ok(at) => {
                    let copies = &mut self.segments[at].copies;
                    copies.push(segment.path);
                    copies.append(&mut segment.copies);
                }
                Err(at) => self.segments.insert(at, segment),
            }
        }
    }
}

impl Segment {
    /// Of copies in several directories, the longest is read: the others were made while the file was written.
    fn choose(&mut self) {
        self.with_directory = true;
        if self.copies.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.copies);
        all.insert(0, std::mem::take(&mut self.path));
        let length = |path: &PathBuf| {
            let one = Self { path: path.clone(), ..self.clone() };
            one.lines().map_or(0, |lines| lines.map_while(Result::ok).filter(|line| line.whole).count())
        };
        // The first of the longest, so that a compressed copy is read only if nothing else is there.
        let longest = all.iter().enumerate().max_by_key(|(at, path)| (length(path), Reverse(*at)));
        let at = longest.map_or(0, |(at, _)| at);
        self.path = all.remove(at);
        self.copies = all;
    }
}
