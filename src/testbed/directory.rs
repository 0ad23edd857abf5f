//! Where does a broker or a registry keep its data, and who removes it when nobody was left to do so?

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::TestbedError;
use super::process::poll;

/// The longest legitimate holder fetches the registry (104 MB) over a slow line.
const LOCK_BOUND: Duration = Duration::from_secs(15 * 60);

/// A lock between processes; the operating system frees it when its holder ends, however it ends.
pub(super) fn lock(path: &Path) -> Result<File, TestbedError> {
    let file = File::create(path).map_err(TestbedError::io("create the lock", path))?;
    let taken = poll(LOCK_BOUND, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(TestbedError::io("lock", path)(source)),
    })?;
    match taken {
        Some(()) => Ok(file),
        None => Err(TestbedError::Locked {
            path: path.to_owned(),
            bound: LOCK_BOUND,
        }),
    }
}

/// A directory that goes when this is dropped. After a crash, the next testbed in the same cache removes it.
pub struct RunDirectory {
    path: PathBuf,
    /// Held as long as the directory is in use.
    _in_use: File,
}

const IN_USE: &str = "in-use";

impl RunDirectory {
    /// # Errors
    /// When it cannot be written to.
    pub fn create(cache: &Path) -> Result<Self, TestbedError> {
        let parent = cache.join("run");
        fs::create_dir_all(&parent).map_err(TestbedError::io("create", &parent))?;
        // Nobody may look at a directory that is there but not yet locked.
        let _creating = lock(&parent.join("lock"))?;
        remove_abandoned(&parent);
        let path = parent.join(format!("{:016x}", fastrand::u64(..)));
        fs::create_dir(&path).map_err(TestbedError::io("create", &path))?;
        let in_use = lock(&path.join(IN_USE))?;
        Ok(Self { path, _in_use: in_use })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next testbed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        let in_use = File::open(directory.join(IN_USE)).is_ok_and(|file| file.try_lock().is_err());
        if directory.is_dir() && !in_use {
            let _ = fs::remove_dir_all(&directory);
        }
    }
}
