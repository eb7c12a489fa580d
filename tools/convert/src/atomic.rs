//! Writes a file so that it is there whole or not at all.

use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Writes `bytes` to a temporary file in the same folder, flushes it to the disk and renames it.
/// A link stays; the file that it leads to is replaced.
///
/// # Errors
/// As the system reports them; nothing half-written is left. Folders and devices are refused.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes)?;
    publish(file, path)
}

/// A temporary file beside `path`, gone when dropped.
pub(crate) fn beside(path: &Path) -> Result<NamedTempFile> {
    let path = target(path)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".palm-").suffix(".part").tempfile_in(folder)
}

/// Flushes a file of [`beside`] to the disk and gives it its name.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all()?;
    file.persist(target(path)?).map_err(|error| error.error)?;
    Ok(())
}

/// The file that `path` leads to.
fn target(path: &Path) -> Result<PathBuf> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let problem = format!("{} is a folder; name a file", path.display());
            Err(Error::new(ErrorKind::IsADirectory, problem))
        }
        Ok(metadata) if !metadata.is_file() => {
            let problem = format!("{} is not a regular file; name another", path.display());
            Err(Error::new(ErrorKind::InvalidInput, problem))
        }
        Ok(_) => path.canonicalize(),
        Err(_) => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::write_atomically;

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.palm");
        write_atomically(&path, b"old")?;
        write_atomically(&path, b"new")?;
        assert_eq!(std::fs::read(&path)?, b"new");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn refuses_a_folder_and_a_missing_parent() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let error = write_atomically(folder.path(), b"x").err();
        assert!(error.is_some_and(|error| error.to_string().contains("is a folder")));
        #[cfg(unix)]
        assert!(write_atomically(std::path::Path::new("/dev/null"), b"x").is_err());
        assert!(write_atomically(&folder.path().join("none/a.palm"), b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
