//! Rules that are held by a test rather than by memory: who may import whom, sizes, words that must not
//! appear.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINE_WIDTH: usize = 110;
const FILE_LINES: usize = 800;
/// From here on a file is named, so that somebody looks for a place to split it.
const FILE_LINES_SOFT: usize = 600;

/// Module of the architecture, what it may import besides itself and outside crates. `*` is anything below
/// the modules named after it.
const IMPORTS: [(&str, &[&str]); 15] = [
    ("base", &[]),
    ("metrics", &[]),
    ("web", &[]),
    ("tags", &["base"]),
    ("security", &["base", "tags"]),
    ("engine", &["base", "tags", "security", "metrics"]),
    ("protocols", &["base", "tags", "engine", "metrics", "web"]),
    ("drivers", &["base", "tags", "engine", "metrics", "protocols"]),
    ("storage", &["base", "tags"]),
    ("reactor", &["base", "tags::changes", "engine", "metrics", "security::tls"]),
    ("simulation", &["base", "metrics", "web", "tags", "security", "engine", "protocols", "drivers"]),
    ("fuzz", &["base", "metrics", "web", "tags", "security", "engine", "protocols", "drivers"]),
    ("config", &["*", "server", "cli"]),
    ("server", &["*", "cli"]),
    ("cli", &["*"]),
];

/// Where, which words, and what to use instead.
const BANS: [(&[&str], &[&str], &str); 6] = [
    (
        &["tags", "engine", "protocols", "drivers", "simulation"],
        &["Instant::now", "SystemTime", "Instant"],
        "take the time from base::time::Now, which the reactor hands in",
    ),
    (
        &["tags", "engine", "protocols", "drivers", "simulation"],
        &["TcpStream", "TcpListener", "UdpSocket", "std::net::Tcp", "socket2"],
        "move bytes through engine::Wire, which the reactor implements",
    ),
    (
        &["tags", "engine", "protocols", "drivers", "simulation"],
        &["std::thread", "thread::spawn", "thread::sleep"],
        "use a deadline of the session or a timer of the engine; threads belong to the reactor",
    ),
    (
        &[
            "base",
            "metrics",
            "web",
            "tags",
            "security",
            "engine",
            "protocols",
            "drivers",
            "storage",
            "simulation",
        ],
        &["mio"],
        "ask the reactor through engine::Wire; it alone names mio",
    ),
    (&["config", "server", "cli", "lib", "main"], &["mio"], "ask the reactor; it alone names mio"),
    (&[""], &["unsafe"], "use a safe interface, such as rustix, signal-hook or socket2"),
];

/// In comments as well.
const WORDS: [(&str, &str); 8] = [
    ("TODO", "finish it, or open an issue"),
    ("FIXME", "fix it, or open an issue"),
    ("XXX", "finish it, or open an issue"),
    ("HACK", "say why it is as it is"),
    ("dbg!", "use log::debug!"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("allow(dead_code)", "remove what nobody uses"),
];

#[test]
fn imports_go_one_way() {
    let mut faults = Vec::new();
    let mut seen = 0;
    let protocols = protocols();
    for file in files("src") {
        let Some((_, allowed)) = IMPORTS.iter().find(|(module, _)| *module == file.module) else {
            assert!(
                matches!(file.module.as_str(), "lib" | "main"),
                "{} is in no row of the table",
                file.name
            );
            continue;
        };
        for import in imports(&file.code, &file.levels()) {
            seen += 1;
            if let Some(why) = forbidden(&protocols, &file, allowed, &import) {
                faults.push(format!("{}: crate::{import}: {why}", file.name));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(seen >= 20, "only {seen} imports found; the scanner has lost its sight");
}

#[test]
fn what_belongs_elsewhere_is_not_named() {
    let mut faults = Vec::new();
    for file in files("src") {
        for (modules, words, instead) in BANS {
            if !modules.contains(&"") && !modules.contains(&file.module.as_str()) {
                continue;
            }
            for word in words.iter().filter(|word| has_word(&file.code, word)) {
                faults.push(format!("{}: {word}: {instead}", file.name));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("the library has a root");
    assert!(lib.contains("#![forbid(unsafe_code)]"), "src/lib.rs forbids unsafe code no longer");
}

#[test]
fn no_unfinished_work() {
    let mut faults = Vec::new();
    for file in files("src") {
        for (word, instead) in WORDS.iter().filter(|(word, _)| has_word(&file.text, word)) {
            faults.push(format!("{}: {word}: {instead}", file.name));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn lines_and_files_are_short() {
    let mut faults = Vec::new();
    let all: Vec<_> = ["src", "tests", "benches"].into_iter().flat_map(files).collect();
    assert!(all.len() >= 20, "only {} files found", all.len());
    for file in all {
        for (number, line) in
            file.text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_WIDTH)
        {
            faults.push(format!("{}:{}: {} columns", file.name, number + 1, line.chars().count()));
        }
        match file.text.lines().count() {
            lines if lines > FILE_LINES => faults.push(format!("{}: {lines} lines: split it", file.name)),
            lines if lines > FILE_LINES_SOFT => eprintln!("{}: {lines} lines: look for a split", file.name),
            _ => {}
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The checks see what they are for.
/// Before they build or install anything.
#[test]
fn scripts_say_how_they_are_called() {
    for script in ["cross", "edge", "growth", "interop", "limits", "package", "peers", "thousands"] {
        let path = root().join("scripts").join(script);
        let output = Command::new("bash").arg(path).arg("--bogus").output().expect("there is a bash");
        let usage = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{script}: {usage}");
        assert!(usage.contains(&format!("scripts/{script}")), "{script}: {usage}");
    }
}

#[test]
fn the_scanner_finds_what_is_there() {
    let source = r#"
        //! See [`crate::server::Server`].
        use crate::base::{self, time::Now};
        use crate::{tags::{name::Name, Value}, engine};
        pub(crate) use super::echo::Echo;
        fn f() { crate::metrics::count(); } // not crate::cli::run
    "#;
    let code = code_of(source);
    let expected = [
        "base::self",
        "base::time",
        "tags::name",
        "tags::Value",
        "engine",
        "metrics::count",
        "protocols::echo",
    ];
    assert_eq!(imports(&code, &["protocols", "line"]), expected);
    assert_eq!(imports("use super::super::echo;", &["protocols", "line", "get"]), ["protocols::echo"]);
    assert!(has_word(&code, "Now") && !has_word(&code, "No") && !has_word(&code, "Server"));

    let tested =
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n    mod inner {\n    }\n}\nfn g() {}\n";
    assert_eq!(code_of(tested), "fn f() {}\nfn g() {}\n");

    let only = "#[cfg(any(test, feature = \"simulation\"))]";
    let apart = format!("mod line;\n{only}\npub(crate) mod rig;\n#[cfg(test)]\nmod tests {{\n}}\n");
    let parent = |name| test_modules(&SourceFile::new(name, apart.clone()));
    assert_eq!(parent("src/engine/mod.rs"), ["src/engine/rig.rs", "src/engine/rig/"]);
    assert_eq!(parent("src/engine/session.rs"), ["src/engine/session/rig.rs", "src/engine/session/rig/"]);

    #[rustfmt::skip]
    let table = [
        ("src/tags/table.rs",         "base::time",        true),
        ("src/tags/table.rs",         "tags::name",        true),
        ("src/tags/table.rs",         "engine",            false),
        ("src/base/time.rs",          "tags",              false),
        ("src/reactor/mod.rs",        "tags::changes",     true),
        ("src/reactor/mod.rs",        "tags::table",       false),
        ("src/reactor/mod.rs",        "protocols::line",   false),
        ("src/protocols/mod.rs",      "protocols::line",   true),
        ("src/protocols/line.rs",     "protocols::line",   true),
        ("src/protocols/line.rs",     "protocols::echo",   false),
        ("src/protocols/line/get.rs", "protocols::line",   true),
        ("src/protocols/line.rs",     "protocols::Row",    true),
        ("src/drivers/modbus.rs",     "protocols::modbus", true),
        ("src/drivers/modbus.rs",     "protocols::line",   false),
        ("src/config.rs",             "protocols",         true),
        ("src/config.rs",             "server",            false),
        ("src/cli/serve.rs",          "server",            true),
    ];
    for (name, import, allowed) in table {
        let file = SourceFile::new(name, String::new());
        let (_, row) =
            IMPORTS.iter().find(|(module, _)| *module == file.module).expect("a module of the table");
        let protocols = ["line", "echo", "modbus"].map(str::to_owned);
        assert_eq!(forbidden(&protocols, &file, row, import).is_none(), allowed, "{name} {import}");
    }
}

struct SourceFile {
    /// From the crate's root: `src/tags/name.rs`.
    name: String,
    /// The first level below `src`: `tags`.
    module: String,
    /// The second level, if there is one: `name`.
    part: Option<String>,
    text: String,
    /// Without comments and without modules of tests; nothing of a file that is one.
    code: String,
}

impl SourceFile {
    fn new(name: &str, text: String) -> SourceFile {
        let mut levels = name.split('/').skip(1).map(|level| level.trim_end_matches(".rs").to_owned());
        let module = levels.next().expect("a file in a folder");
        let part = levels.next().filter(|part| part != "mod");
        SourceFile { name: name.to_owned(), module, part, code: code_of(&text), text }
    }

    /// The path of the module that the file is: `src/tags/name.rs` → tags, name.
    fn levels(&self) -> Vec<&str> {
        let path = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").split('/').collect()
    }
}

/// Why `import` may not be in `file`, if it may not.
fn forbidden(protocols: &[String], file: &SourceFile, allowed: &[&str], import: &str) -> Option<String> {
    let (module, part) =
        import.split_once("::").map_or((import, None), |(module, part)| (module, Some(part)));
    // One protocol must not know another, and a driver only the codec of its own.
    let own = |part: &str| file.part.is_none() || file.part.as_deref() == Some(part);
    if module == "protocols" && matches!(file.module.as_str(), "protocols" | "drivers") {
        let another = part.filter(|part| protocols.iter().any(|known| known == part) && !own(part));
        if let Some(part) = another {
            return Some(format!("{} must not know {part}; share by way of engine or base", file.module));
        }
    }
    if module == file.module {
        return None;
    }
    let permitted = match allowed.split_first() {
        Some((&"*", above)) => !above.contains(&module),
        _ => allowed.iter().any(|row| *row == module || *row == import),
    };
    (!permitted).then(|| format!("{} may import only {allowed:?}; hand it in from above", file.module))
}

/// Paths that begin with `crate::` or `super::` in the module `levels`, as module or module::part.
fn imports(code: &str, levels: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        found.extend(first_two(&code[at + prefix.len()..]));
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let path = code[at..].trim_start_matches("super::");
        let steps = (code.len() - at - path.len()) / "super::".len();
        let above = levels[..levels.len().saturating_sub(steps)].iter();
        for item in group(path) {
            let full: Vec<&str> = above.clone().copied().chain([item]).collect();
            found.extend(first_two(&full.join("::")));
        }
    }
    found
}

/// The first two names of a path; of each path, if it is a group.
fn first_two(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in group(path) {
        let (module, rest) = split_path(item);
        match rest.map(group) {
            Some(parts) => found.extend(parts.iter().map(|part| format!("{module}::{}", split_path(part).0))),
            None => found.push(module.to_owned()),
        }
    }
    found
}

/// `{a::b, c}…` → `a::b` and `c`; anything else is itself.
fn group(path: &str) -> Vec<&str> {
    let Some(inner) = path.strip_prefix('{') else { return vec![path] };
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.extend(Some(inner[start..at].trim()).filter(|item| !item.is_empty()));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

/// `tags::name::Name` → `tags`, and the rest if there is one.
fn split_path(path: &str) -> (&str, Option<&str>) {
    let end = path.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(path.len());
    (&path[..end], path[end..].strip_prefix("::"))
}

/// `word` with nothing of a name before or after it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    text.match_indices(word).any(|(at, _)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    })
}

fn is_for_tests(attribute: &str) -> bool {
    attribute == "#[cfg(test)]" || attribute.starts_with("#[cfg(any(test, ")
}

/// Without comments, and without `#[cfg(test)]` modules of the top level: tests may know more. Formatted code
/// ends such a module with the first brace in its own column.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if is_for_tests(line) {
            if lines.next().is_some_and(|line| line.ends_with('{')) {
                lines.by_ref().find(|line| *line == "}");
            }
            continue;
        }
        let line =
            if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or("") };
        if !line.is_empty() {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// The files and folders of `src/protocols`.
fn protocols() -> Vec<String> {
    let mut parts: Vec<_> = files("src")
        .into_iter()
        .filter(|file| file.module == "protocols")
        .filter_map(|file| file.part)
        .collect();
    parts.dedup();
    parts
}

fn files(folder: &str) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder of the sources can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push(SourceFile::new(&name, fs::read_to_string(&path).expect("sources are UTF-8")));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let tests: Vec<String> = found.iter().flat_map(test_modules).collect();
    for file in found.iter_mut().filter(|file| tests.iter().any(|test| file.name.starts_with(test))) {
        file.code.clear();
    }
    found
}

/// The files that `file` takes in only for tests, by `#[cfg(test)] mod name;`, without what comes after the
/// name.
fn test_modules(file: &SourceFile) -> Vec<String> {
    let folder = match file.name.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
        _ => file.name.trim_end_matches(".rs"),
    };
    let lines = file.text.lines().zip(file.text.lines().skip(1));
    let modules = lines.filter(|(line, _)| is_for_tests(line.trim())).filter_map(|(_, next)| {
        let name = next.trim().strip_suffix(';')?.rsplit_once("mod ")?.1;
        Some([format!("{folder}/{name}.rs"), format!("{folder}/{name}/")])
    });
    modules.flatten().collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
