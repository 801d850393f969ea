use super::*;

#[test]
fn shows() {
    for s in [
        "a: [1\nkind: x\n",
        "a: {b: c\n",
        "a: {b: c\nk: d\n",
        "a: &x 1\n",
        "a: !!str 1\n",
        "<<: *x\n",
        "a: 1\n---\n",
        "a: \"x\nb: 1\n",
        "a: b: c\n",
        "a:\n\tb: 1\n",
        "a: 1\n b: 2\n",
        "- a\nb: 1\n",
        "a: 'x' y\n",
        "a: @x\n",
        "? [a]\n: b\n",
        ": a\n",
        "",
        "# c\n",
        "glob: *.yml\n",
        "a: ]\n",
        "a: 1\na b\n",
        "%YAML 1.1\n---\na: 1\n",
        "a: \"\\q\"\n",
        "a: &x\n  b: 1\n",
        "a: !t {b: 1}\n",
        "{a: 1, a: 2}\n",
        "a: |\n  x\n y\n",
        "a:\n- b\n-c\n",
        "a: 1\n...\nb: 2\n",
        "a: %x\n",
        "a: [1,2]]\n",
        "\ta: 1\n",
        "a: 'it's'\n",
        "a: .inf",
        "a: 18446744073709551616\n",
        "a: 1\nb: 1e400\n",
        "1: a\n",
        "true: x\n",
        "a: [1 2: 3}\n",
        "a: \u{202e}x",
        "a: \u{1b}x",
        "a\u{feff}: 1",
        "a: x\u{2028}b: 1",
        "- a\n",
        "hello\n",
        "~\n",
        "a: b\n c: d\n",
        "a: [\n",
        "a: 'x\n",
        "a: - b\n",
    ] {
        match read(s.as_bytes(), "r.yml", Limits::REQUEST) {
            Ok(d) => println!("OK {s:?} {}", d.value),
            Err(e) => println!("{s:?}\n{}", e.render()),
        }
    }
    println!("{}", read(b"a: 1\nb: caf\xe9\n", "r.yml", Limits::REQUEST).unwrap_err().render());
    println!("{}", read(&[b' '; 1 << 21], "r.yml", Limits::REQUEST).unwrap_err().render());
}
