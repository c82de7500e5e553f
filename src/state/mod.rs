//! Files and folders of state. Only their owner can read or change them, whatever the umask is.
//!
//! 1. Everything that Saltgate keeps on disk is created here: folders with mode 0700, files with mode 0600. A test
//!    (`tests/gateway/architecture.rs`) fails if other code creates a file. Only [`public_file`] is for everybody.
//! 2. A small file is replaced atomically ([`replace`]): a reader sees the old content or the new one.
//! 3. An existing folder keeps its mode; if other users have access, a warning is logged.
//! 4. No file of state is opened, created or changed through a symbolic link: whoever can create the link could
//!    otherwise choose which file is overwritten.
//! 5. A socket is never reachable with a wider mode: it is bound in a [`PrivateFolder`], and then moved to its name.
//! 6. [`Counts`] are numbers that only grow. They are kept in another folder than the files whose changes they count,
//!    so that an older copy of such a file is detected.

mod counts;
mod private;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

pub(crate) use counts::Counts;
#[cfg(any(test, fuzzing))]
pub(crate) use counts::fuzz::fuzz;
pub(crate) use private::PrivateFolder;

/// The mode bits of the group and of others.
const OTHERS: u32 = 0o077;

/// Creates a folder of state and its parents with mode 0700. Logs a warning if it exists and other users have access.
///
/// # Errors
/// If it cannot be created.
pub fn folder(path: &Path) -> io::Result<()> {
    if let Some(mode) = open_to_others(path) {
        tracing::warn!(
            folder = %path.display(),
            mode = format!("{mode:04o}"),
            "a folder of state is accessible to other users; chmod 700 it"
        );
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The mode of an existing folder that other users have access to.
pub(crate) fn open_to_others(path: &Path) -> Option<u32> {
    let about = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    let mode = about.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then_some(mode)
}

/// The options to open a file of state with: no symbolic links, and mode 0600 if it is created.
pub(crate) fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Replaces a small file atomically: after a crash the file is the old one or the new one. The new one is on disk when
/// this returns.
///
/// # Errors
/// If it cannot be written. The old file is unchanged.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    // A file that an interrupted write left may have another mode, or be a link.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = file().write(true).create_new(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Replaces an existing file atomically. The new one has the owner, the group and the mode of the old one. If the path
/// is a link, the file that it leads to is replaced.
///
/// # Errors
/// If it cannot be written, or cannot get its owner. The old file is unchanged.
pub(crate) fn replace_kept(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = path.canonicalize()?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let about = path.metadata()?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = folder.join(hidden);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = file().write(true).create_new(true).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| {
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (about.uid(), about.gid()) {
            std::os::unix::fs::fchown(&file, Some(about.uid()), Some(about.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(about.permissions().mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    });
    if let Err(error) = written {
        drop(std::fs::remove_file(&new));
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// Writes a file that holds nothing of anybody's and that everybody may read, such as a manual page.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn public_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = file().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn created_folders_are_private_and_open_ones_cause_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        folder(&inner).unwrap();
        folder(&inner).unwrap();
        assert_eq!((mode(&inner), mode(&dir.path().join("a"))), (0o700, 0o700));
        replace(&inner, "state", b"1").unwrap();
        assert_eq!(mode(&inner.join("state")), 0o600);
        assert_eq!(open_to_others(&inner), None);
        std::fs::set_permissions(&inner, Permissions::from_mode(0o750)).unwrap();
        assert_eq!(open_to_others(&inner), Some(0o750));
        assert_eq!(open_to_others(&inner.join("state")), None, "a file is no folder");
    }

    #[test]
    fn a_partly_written_file_with_another_mode_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("state.new");
        std::fs::write(&left, "half, and longer than what comes").unwrap();
        std::fs::set_permissions(&left, Permissions::from_mode(0o666)).unwrap();
        replace(dir.path(), "state", b"whole").unwrap();
        let state = dir.path().join("state");
        assert_eq!((std::fs::read(&state).unwrap().as_slice(), mode(&state)), (b"whole".as_slice(), 0o600));
        assert!(!left.exists());
    }

    #[test]
    fn a_file_of_somebody_is_replaced_with_its_mode_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("keys"), dir.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("keys", &link).unwrap();
        replace_kept(&link, b"new").unwrap();
        assert!(link.is_symlink() && mode(&path) == 0o640);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
        assert!(replace_kept(&dir.path().join("none"), b"new").is_err(), "it replaces, and creates nothing");
    }

    #[test]
    fn the_target_of_a_link_is_neither_written_nor_opened() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::fs::set_permissions(&precious, Permissions::from_mode(0o644)).unwrap();
        for link in ["state.new", "state", "lock"] {
            std::os::unix::fs::symlink(&precious, dir.path().join(link)).unwrap();
        }
        replace(dir.path(), "state", b"new").unwrap();
        assert!(file().write(true).create(true).truncate(true).open(dir.path().join("lock")).is_err());
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
        assert_eq!(mode(&precious), 0o644);
        let state = dir.path().join("state");
        assert!(!state.is_symlink());
        assert_eq!(std::fs::read(state).unwrap(), b"new");
    }
}
