//! The report's files: JSON for programs, tables for people, and a chart.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::Context as _;

use crate::{chart, markdown, report::Report};

const FILES: [&str; 3] = ["report.json", "report.md", "report.svg"];

/// Removes the report of an earlier run.
pub(crate) fn remove(folder: &Path) -> anyhow::Result<()> {
    for file in FILES {
        let path = folder.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the report of this run.
pub(crate) fn write(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let texts = [
        report.json()?,
        markdown::markdown(report),
        chart::svg(report),
    ];
    for (file, text) in FILES.iter().zip(texts) {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
