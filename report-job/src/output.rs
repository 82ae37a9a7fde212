//! The files of `--out`.

use std::path::Path;

use fuse_ledger::ReportContent;

use crate::JobError;

/// Writes report.html, report.txt, report.json and report.eml; makes the folder when it is not there.
pub(crate) fn write(folder: &Path, content: &ReportContent, mail: &[u8]) -> Result<(), JobError> {
    let failed = |path: &Path, source| JobError::Output {
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let files = [
        ("report.html", content.html.as_bytes()),
        ("report.txt", content.plain.as_bytes()),
        ("report.json", content.json.as_bytes()),
        ("report.eml", mail),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|source| failed(&path, source))?;
    }
    Ok(())
}
