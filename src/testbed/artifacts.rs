//! Where do the jars of the broker and of the registry come from?
//!
//! From Maven Central, through the machine's own `mvn` (its mirrors, proxies and repository), once a cache directory. Each lies in a directory of its
//! own that appears by one rename: it is there complete or not at all. A file lock lets parallel processes fetch once.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::directory::lock;
use super::error::{JAVA_MINIMUM, TestbedError};
use super::process::{Output, Process};

/// The registry on a slow line.
const FETCH_BOUND: Duration = Duration::from_secs(10 * 60);

/// What Maven is to fetch, and how.
pub(super) struct Artifact {
    /// Names the directory, so it carries the version.
    pub(super) name: &'static str,
    pom: &'static str,
    goal: &'static [&'static str],
}

/// 4.4.0: a current broker, the one whose behaviour this program was measured against; with its tools for operators.
pub(super) const KAFKA: Artifact = Artifact {
    name: "kafka-and-tools-4.4.0",
    pom: include_str!("kafka.pom.xml"),
    goal: &["dependency:copy-dependencies", "-DincludeScope=runtime"],
};

/// 3.0.9: the last line that runs on Java 17 (3.3 needs 21), with Confluent's API. Confluent's own registry is not on Maven Central.
pub(super) const REGISTRY: Artifact = Artifact {
    name: "apicurio-registry-3.0.9",
    pom: include_str!("no-dependencies.pom.xml"),
    goal: &[
        "dependency:unpack",
        "-Dartifact=io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all",
    ],
};

/// An artifact that is here.
#[derive(Clone)]
pub(super) struct Installed {
    pub(super) directory: PathBuf,
    /// The classes of a first run, ready to be mapped into memory (class data sharing): starting takes half to a third of the time.
    pub(super) class_archive: PathBuf,
}

impl Installed {
    fn new_class_archive(&self) -> PathBuf {
        self.class_archive.with_extension("jsa.new")
    }
}

/// `testbed` in cargo's target directory if there is one, else in the user's cache directory.
pub fn default_cache() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").and_then(|directory| std::path::absolute(directory).ok());
    let around_executable = || {
        let executable = std::env::current_exe().ok()?;
        executable
            .ancestors()
            .find(|directory| directory.ends_with("target"))
            .map(Path::to_owned)
    };
    let of_user = || {
        std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("d02-source")
    };
    named.or_else(around_executable).unwrap_or_else(of_user).join("testbed")
}

/// Fetches the artifact unless it is there, and then calls `first_run`, which is to run the program once with [`Jvm::Archiving`] and to stop it.
pub(super) fn install(
    cache: &Path,
    artifact: &Artifact,
    first_run: impl FnOnce(&Installed) -> Result<(), TestbedError>,
) -> Result<Installed, TestbedError> {
    check_java()?;
    let installed = Installed {
        directory: cache.join(artifact.name),
        class_archive: cache.join(format!("{}.jsa", artifact.name)),
    };
    if installed.class_archive.exists() {
        return Ok(installed);
    }
    fs::create_dir_all(cache).map_err(TestbedError::io("create", cache))?;
    let _installing = lock(&cache.join(format!("{}.lock", artifact.name)))?;
    // Another process was here first.
    if installed.class_archive.exists() {
        return Ok(installed);
    }
    if !installed.directory.exists() {
        fetch(cache, artifact, &installed.directory)?;
    }
    first_run(&installed)?;
    // A JVM that wrote no archive only starts slower.
    let _ = fs::rename(installed.new_class_archive(), &installed.class_archive);
    Ok(installed)
}

fn fetch(cache: &Path, artifact: &Artifact, directory: &Path) -> Result<(), TestbedError> {
    match Command::new("mvn").arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(TestbedError::Maven {
                artifact: artifact.name,
            });
        }
        // Any other trouble shows, with its log, below.
        _ => {}
    }
    let work = cache.join(format!("{}.fetching", artifact.name));
    // A killed process leaves one behind.
    if work.exists() {
        fs::remove_dir_all(&work).map_err(TestbedError::io("remove", &work))?;
    }
    let fetched = work.join("fetched");
    fs::create_dir_all(&fetched).map_err(TestbedError::io("create", &fetched))?;
    let pom = work.join("pom.xml");
    fs::write(&pom, artifact.pom).map_err(TestbedError::io("write", &pom))?;

    let mut arguments = vec!["--quiet".to_owned(), "--batch-mode".to_owned()];
    arguments.extend(artifact.goal.iter().map(|&argument| argument.to_owned()));
    arguments.push(format!("-DoutputDirectory={}", fetched.display()));
    Process::start(
        &format!("mvn for {}", artifact.name),
        "mvn",
        &arguments,
        &work,
        Output::Log,
    )?
    .wait_for_success(FETCH_BOUND)?;

    fs::rename(&fetched, directory).map_err(TestbedError::io("move into place", directory))?;
    fs::remove_dir_all(&work).map_err(TestbedError::io("remove", &work))
}

fn check_java() -> Result<(), TestbedError> {
    let java = |found| Err(TestbedError::Java { found });
    let output = match Command::new("java").arg("-version").output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return java("there is none".into()),
        Err(error) => return java(format!("it does not run ({error})")),
    };
    let answer = String::from_utf8_lossy(&output.stderr);
    match java_version(&answer) {
        Some(version) if version >= JAVA_MINIMUM => Ok(()),
        Some(version) => java(format!("found {version}")),
        None => java(format!("`java -version` says {:?}", answer.trim())),
    }
}

/// `openjdk version "17.0.15" 2025-04-15` is 17; `java version "1.8.0_392"` is 1, old enough to be refused.
fn java_version(answer: &str) -> Option<u32> {
    let version = answer.split('"').nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

/// Whether a JVM uses the class archive or writes it at its end.
#[derive(Clone, Copy)]
pub(super) enum Jvm {
    Sharing,
    Archiving,
}

impl Jvm {
    /// Options for a JVM that should start fast, stay small and leave nothing outside `directory`.
    pub(super) fn options(self, installed: &Installed, heap: &str, directory: &Path) -> Vec<String> {
        vec![
            format!("-Xmx{heap}"),
            // Fastest to start, and smallest, on few cores.
            "-XX:+UseSerialGC".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            // Native libraries are unpacked there; a killed JVM does not remove them.
            format!("-Djava.io.tmpdir={}", directory.display()),
            match self {
                // An archive of another Java version is ignored: the start is slower, nothing else.
                Self::Sharing => format!("-XX:SharedArchiveFile={}", installed.class_archive.display()),
                Self::Archiving => format!("-XX:ArchiveClassesAtExit={}", installed.new_class_archive().display()),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::java_version;

    #[test]
    fn java_version_is_the_first_number() {
        let cases = [
            ("openjdk version \"17.0.15\" 2025-04-15\n", Some(17)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            ("java version \"1.8.0_392\"", Some(1)),
            ("command not found", None),
        ];
        for (answer, version) in cases {
            assert_eq!(java_version(answer), version, "{answer}");
        }
    }
}
