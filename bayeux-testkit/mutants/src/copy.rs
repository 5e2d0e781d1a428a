//! A copy of the crates that the simulation needs, with all mutants in the engine.
//!
//! The workspace itself is never changed. The copy is a workspace of its own, made in memory first and then compared
//! with what is on disk, so that what did not change is not built again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use crate::list::Mutant;
use crate::patch::{self, PatchError};

/// The crate whose binary runs in the copy; the crates that it depends on are copied with it.
const CRATE: &str = env!("CARGO_PKG_NAME");

/// The binary that simulates.
const PROBE: &str = "probe";

/// The sources that the mutants are in.
pub const ENGINE: &str = "bayeux-core/src";

/// Why there is no copy, or no binary of it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A manifest cannot be read.
    #[error("{path}: {error}")]
    Manifest {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        error: toml::de::Error,
    },
    /// A mutant does not fit.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Mutants are in a module that the engine does not have.
    #[error("the engine has no module {0}: its list is to be named as the module is")]
    NoModule(String),
    /// The copy cannot be built.
    #[error("the copy in {0} cannot be built: see above")]
    Build(PathBuf),
}

/// Files by their path in the workspace.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Makes the copy of the workspace at `workspace` in the directory `root`, and builds it. Returns the binary that
/// simulates.
///
/// # Errors
/// Where a file cannot be read or written, a mutant does not fit, or cargo fails.
pub fn build(workspace: &Path, root: &Path, mutants: &[Mutant]) -> Result<PathBuf, CopyError> {
    let manifest = read_manifest(&workspace.join("Cargo.toml"))?;
    let crates = needed_crates(workspace, &manifest)?;
    let mut files = Files::new();
    for path in &crates {
        collect(workspace, path, &mut files)?;
    }
    mutate(&mut files, mutants)?;
    files.insert("Cargo.lock".into(), read(&workspace.join("Cargo.lock"))?);
    files.insert("Cargo.toml".into(), workspace_manifest(manifest, &crates).into_bytes());
    write_changed(root, &files)?;
    remove_others(root, &crates, &files)?;
    compile(root)
}

/// Puts the mutants into the engine's modules.
///
/// # Errors
/// Where one does not fit.
pub fn mutate(files: &mut BTreeMap<PathBuf, Vec<u8>>, mutants: &[Mutant]) -> Result<(), CopyError> {
    let mut modules: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        modules.entry(&mutant.module).or_default().push((number, mutant));
    }
    let path = |module: &str| Path::new(ENGINE).join(module).with_extension("rs");
    for (module, mutants) in modules {
        let file = files.get_mut(&path(module)).ok_or_else(|| CopyError::NoModule(module.to_owned()))?;
        *file = patch::apply(&String::from_utf8_lossy(file), &mutants)?.into_bytes();
    }
    let root = files.get_mut(&path("lib")).ok_or_else(|| CopyError::NoModule("lib".to_owned()))?;
    root.extend_from_slice(b"\nmod mutant;\n");
    files.insert(path("mutant"), patch::switches(mutants).into_bytes());
    Ok(())
}

/// The crates of the workspace that the probe needs, directly or not, as paths in the workspace.
fn needed_crates(workspace: &Path, manifest: &Table) -> Result<BTreeSet<PathBuf>, CopyError> {
    let path_of = |name: &str| table(manifest, &["workspace", "dependencies"])?.get(name)?.get("path")?.as_str();
    let mut found = BTreeSet::new();
    let mut todo = vec![relative_manifest_dir(workspace)];
    while let Some(path) = todo.pop() {
        let manifest = read_manifest(&workspace.join(&path).join("Cargo.toml"))?;
        // Those of tests, too: cargo wants to see them.
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        let names = tables.iter().filter_map(|name| table(&manifest, &[name])).flat_map(Table::keys);
        let paths = names.filter_map(|name| path_of(name)).map(PathBuf::from);
        todo.extend(paths.filter(|path| !found.contains(path)));
        found.insert(path);
    }
    Ok(found)
}

/// Where this crate is in the workspace.
fn relative_manifest_dir(workspace: &Path) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.strip_prefix(workspace).unwrap_or(own).to_owned()
}

fn table<'a>(manifest: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter().try_fold(manifest, |table, name| table.get(*name)?.as_table())
}

/// The workspace's manifest with those members, and without what makes a release build slow to link.
fn workspace_manifest(mut manifest: Table, crates: &BTreeSet<PathBuf>) -> String {
    let members = crates.iter().map(|path| Value::from(path.to_string_lossy().into_owned())).collect();
    if let Some(workspace) = manifest.get_mut("workspace").and_then(Value::as_table_mut) {
        workspace.insert("members".into(), Value::Array(members));
        workspace.remove("default-members");
    }
    let release = Table::from_iter([("codegen-units".into(), Value::from(16))]);
    manifest.insert("profile".into(), Table::from_iter([("release".into(), release.into())]).into());
    manifest.to_string()
}

/// Reads the files of a directory, without those of crates below it.
fn collect(workspace: &Path, directory: &Path, files: &mut Files) -> Result<(), CopyError> {
    let path = workspace.join(directory);
    for entry in list(&path)? {
        let relative = directory.join(entry.file_name());
        if !entry.path().is_dir() {
            files.insert(relative, read(&entry.path())?);
        } else if entry.file_name() != "target" && !entry.path().join("Cargo.toml").exists() {
            collect(workspace, &relative, files)?;
        }
    }
    Ok(())
}

/// Writes what is not on disk as it is in `files`.
fn write_changed(root: &Path, files: &Files) -> Result<(), CopyError> {
    for (path, text) in files {
        let path = root.join(path);
        if fs::read(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        let directory = path.parent().unwrap_or(root);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
        written.map_err(|error| CopyError::File { path, error })?;
    }
    Ok(())
}

/// Removes files of an earlier copy that are not among `files`: cargo would find them.
fn remove_others(root: &Path, crates: &BTreeSet<PathBuf>, files: &Files) -> Result<(), CopyError> {
    let mut found = Files::new();
    for path in crates {
        collect(root, path, &mut found)?;
    }
    for path in found.keys().filter(|path| !files.contains_key(*path)) {
        let path = root.join(path);
        fs::remove_file(&path).map_err(|error| CopyError::File { path, error })?;
    }
    Ok(())
}

fn compile(root: &Path) -> Result<PathBuf, CopyError> {
    let target = root.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package", CRATE, "--bin", PROBE, "--target-dir"])
        .arg(&target)
        // Warnings about what a mutant left unused are none of our business.
        .env("RUSTFLAGS", "-Awarnings")
        .status()
        .map_err(|error| CopyError::File { path: root.to_owned(), error })?;
    if !status.success() {
        return Err(CopyError::Build(root.to_owned()));
    }
    Ok(target.join("release").join(PROBE).with_extension(std::env::consts::EXE_EXTENSION))
}

fn read_manifest(path: &Path) -> Result<Table, CopyError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    text.parse().map_err(|error| CopyError::Manifest { path: path.to_owned(), error })
}

fn read(path: &Path) -> Result<Vec<u8>, CopyError> {
    fs::read(path).map_err(|error| CopyError::File { path: path.to_owned(), error })
}

fn list(path: &Path) -> Result<Vec<fs::DirEntry>, CopyError> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    entries.map_err(|error| CopyError::File { path: path.to_owned(), error })
}
