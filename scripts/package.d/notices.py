"""Writes to standard output the licences of all code that is linked into the program and is not Lumina's own:
those of the crates that it is built from for this machine, and of Rust's standard library. Each text is there
once.

    notices.py                     run where Cargo.toml is

Ends with 1 if a crate's licence is not one of ACCEPTED, or if a text is missing.
"""

import html
import json
import pathlib
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass

# What may be linked into a program that anybody may pass on: licences that ask for a notice at most, and
# MPL-2.0, whose files stay under it.
ACCEPTED = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "Unicode-3.0",
            "Unicode-DFS-2016", "Unlicense", "Zlib"}
# Names of files with a licence, or with a notice that it asks for.
NOTICES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
# For a crate without such a file. With this licence the text is the same for all.
STANDARD_TEXT = "LICENSE-APACHE"
# Crates within the standard library that its own notices leave out.
WITHIN_STD = {
    "addr2line": "Apache-2.0 OR MIT",
    "adler2": "0BSD OR MIT OR Apache-2.0",
    "gimli": "MIT OR Apache-2.0",
    "memchr": "Unlicense OR MIT",
    "miniz_oxide": "MIT OR Zlib OR Apache-2.0",
    "object": "Apache-2.0 OR MIT",
    "rustc_demangle": "MIT OR Apache-2.0",
}

IN_STD = ", in Rust's standard library"


class Unclear(Exception):
    """Something that no program should be passed on with."""


@dataclass
class Component:
    """What is linked in, from one source under one licence."""
    name: str
    licence: str
    authors: str
    source: str
    texts: list  # of pairs: a file's name, its text


def main():
    try:
        components = crates() + standard_library()
    except Unclear as error:
        sys.exit(f"notices: {error}")
    sys.stdout.reconfigure(encoding="utf-8")
    write(components)


def write(components):
    texts = {}
    print("Third-party code in lumina\n\nThe program has code of the following in it; the texts are below.")
    for component in components:
        numbers = []
        for name, text in component.texts:
            # Some differ in their spaces only.
            number, _, holders = texts.setdefault(" ".join(text.split()), (len(texts) + 1, text, []))
            holders.append(f"{component.name} ({name})")
            if number not in numbers:
                numbers.append(number)
        print(f"\n{component.name}\n  Licence: {component.licence}")
        for key, value in [("Authors", component.authors), ("Source", component.source),
                           ("Texts", ", ".join(map(str, numbers)))]:
            if value:
                print(f"  {key}: {value}")
    for number, text, holders in texts.values():
        lines = (line.rstrip() for line in text.strip("\r\n").splitlines())
        heading = textwrap.fill(f"Text {number}: {', '.join(holders)}", 78, break_long_words=False)
        print(f"\n{'=' * 78}\n{heading}\n{'=' * 78}\n", *lines, sep="\n")


def crates():
    """The crates whose code is in the program. What only runs while it is built is not."""
    host = run("rustc", "--print", "host-tuple").strip()
    tree = run(*"cargo tree --locked --edges normal,no-proc-macro --prefix none --target".split(), host)
    linked = {tuple(line.split()[:2]) for line in tree.splitlines()}
    # It knows the crates' folders, but has those for tests among them.
    metadata = json.loads(run(*"cargo metadata --locked --format-version 1 --filter-platform".split(), host))
    found = {(package["name"], f"v{package['version']}"): package for package in metadata["packages"]
             if package["id"] not in metadata["workspace_members"]}
    own = {(package["name"], f"v{package['version']}") for package in metadata["packages"]} - found.keys()
    return [crate(found[key]) for key in sorted(linked - own)]


def crate(package):
    name, licence = f"{package['name']} {package['version']}", package["license"]
    if licence is None or not accepted(licence):
        named = licence or package["license_file"] or "(none)"
        raise Unclear(f"{name} has the licence {named}, which is not accepted: "
                      "use another crate, or add the licence in scripts/package.d/notices.py")
    folder = pathlib.Path(package["manifest_path"]).parent
    texts = [(file.name, read(file)) for file in sorted(folder.iterdir())
             if file.is_file() and file.name.upper().startswith(NOTICES)]
    if not texts:
        if "Apache-2.0" not in licence:
            raise Unclear(f"{name} has no text of its licence ({licence}) in {folder}")
        licence += " (here: Apache-2.0)"
        texts = [(STANDARD_TEXT, read(pathlib.Path(STANDARD_TEXT)))]
    return Component(name, licence, ", ".join(package["authors"]), package["repository"] or "", texts)


def accepted(licence):
    """Whether accepted licences alone meet an expression (SPDX, or the older form with a slash)."""
    tokens = re.findall(r"[()]|[^\s()]+", licence.replace("/", " OR "))

    def either():
        met = both()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0) if tokens else ""
        if token == "(":
            met = either()
            return tokens[:1] == [")"] and bool(tokens.pop(0)) and met
        # An exception permits more.
        if tokens[:1] == ["WITH"]:
            del tokens[:2]
        return token in ACCEPTED

    return either() and not tokens


def standard_library():
    """Rust's standard library and the crates in it, from the notices that come with the compiler."""
    version = run("rustc", "--version").strip()
    documents = pathlib.Path(run("rustc", "--print", "sysroot").strip(), "share/doc")
    libraries = pathlib.Path(run("rustc", "--print", "target-libdir").strip())
    apache = (STANDARD_TEXT, read(pathlib.Path(STANDARD_TEXT)))
    rust = Component(f"Rust's standard library ({version})", "MIT OR Apache-2.0 (here: Apache-2.0)",
                     "The Rust Project Developers", "https://github.com/rust-lang/rust", [apache])
    within, described = [], documents / "rust/COPYRIGHT-library.html"
    names = {file.name[3:].rpartition("-")[0] for file in libraries.glob("lib*.rlib")}
    if described.exists():
        own, *others = re.split("<h3>\\W*", read(described))
        rust.texts.append(("COPYRIGHT-library.html", plain(own[own.index('<h2 id="in-tree-files">'):])))
        rust.texts.append(("Unicode-3.0.txt", read(documents / "rust/licenses/Unicode-3.0.txt")))
        within = [component for component in map(part_of_library, others) if library_name(component) in names]
    else:
        # Compilers before 1.86, and those of Debian.
        files = [documents / "rust/COPYRIGHT", *sorted(documents.glob("libstd-rust-*/copyright"))]
        files = [file for file in files if file.exists()][:1]
        if not files:
            raise Unclear(f"there are no notices of Rust's standard library in {documents}")
        rust.texts += [(file.name, read(file)) for file in files]
    names -= {library_name(component) for component in within}
    # Of their texts, the one is here that is the same for all; the Unlicense asks for none.
    within += [Component(f"{name}{IN_STD}", licence, "", f"https://crates.io/crates/{name}",
                         [apache] if "Apache-2.0" in licence else [])
               for name, licence in WITHIN_STD.items() if name in names]
    return [rust, *within]


def part_of_library(section):
    """A crate of the standard library, as COPYRIGHT-library.html describes it."""
    name, version = re.match(r"(.+?)-(\d[^<]*)</h3>", section).groups()
    licence = re.search(r"<b>License:</b>(.*?)</p>", section).group(1).strip()
    authors = html.unescape(re.search(r"<b>Authors:</b>(.*?)</p>", section).group(1)).strip()
    texts = re.findall(r"<summary><code>(.*?)</code></summary>\s*<pre>(.*?)</pre>", section, re.DOTALL)
    return Component(f"{name} {version}{IN_STD}", licence, authors, f"https://crates.io/crates/{name}",
                     [(file, html.unescape(text)) for file, text in texts])


def library_name(component):
    """A crate's name as compiled libraries have it in theirs."""
    return component.name.split()[0].replace("-", "_")


def plain(page):
    """The text of a page, without empty lines."""
    lines = html.unescape(re.sub(r"<[^>]*>", "", page)).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def run(*command):
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise Unclear(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout


def read(file):
    return file.read_text(encoding="utf-8")


main()
