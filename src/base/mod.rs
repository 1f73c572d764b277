//! What every other module may use, and what uses none of them.

pub mod log;
pub mod section;
pub mod time;
pub mod timers;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// rustfmt leaves long comments and strings as they are.
    #[test]
    fn lines_are_at_most_110_wide() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/base")];
        let mut wide = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("the sources are there") {
                let path = entry.expect("the folder can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).expect("sources are UTF-8");
                    let lines = text.lines().zip(1..).filter(|(line, _)| line.chars().count() > 110);
                    wide.extend(lines.map(|(_, number)| format!("{}:{number}", path.display())));
                }
            }
        }
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
