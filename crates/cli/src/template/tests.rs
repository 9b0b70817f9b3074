//! The language, table by table. Outputs are those of Docker's CLI.

use super::*;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    id: String,
    name: String,
    running: bool,
    pid: i64,
    ratio: f64,
    none: Option<String>,
    args: Vec<String>,
    empty: Vec<String>,
    labels: BTreeMap<String, String>,
    state: State,
    mounts: Vec<Mount>,
    ports: BTreeMap<String, Option<Vec<String>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    exit_code: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    source: String,
    #[serde(rename = "RW")]
    rw: bool,
}

fn data() -> Value {
    let mount = |source: &str, rw| Mount {
        source: source.into(),
        rw,
    };
    to_value(&Data {
        id: "0123456789abcdef".into(),
        name: "/web".into(),
        running: true,
        pid: 42,
        ratio: 0.5,
        none: None,
        args: vec!["-c".into(), "echo <hi>".into()],
        empty: vec![],
        labels: BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
        state: State {
            status: "running".into(),
            exit_code: 0,
        },
        mounts: vec![mount("/src", true), mount("/two", false)],
        ports: BTreeMap::from([
            ("80/tcp".into(), None),
            ("81/tcp".into(), Some(vec!["x".into()])),
        ]),
    })
    .unwrap()
}

fn run(template: &str) -> String {
    match Template::parse(template) {
        Ok(parsed) => parsed.execute(&data()).unwrap_or_else(|e| e.to_string()),
        Err(e) => e.to_string(),
    }
}

fn check(table: &[(&str, &str)]) {
    for (template, want) in table {
        assert_eq!(run(template), *want, "{template}");
    }
}

#[test]
fn fields_and_values() {
    check(&[
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("a{{ .Name }}b{{.Pid}}", "a/webb42"),
        ("{{.State.Status}} {{.State.ExitCode}}", "running 0"),
        ("{{.State}}", "{running 0}"),
        ("{{.Args}} {{.Empty}}", "[-c echo <hi>] []"),
        ("{{.Labels}}", "map[a:1 b:2]"),
        ("{{.Labels.a}} {{.Labels.zzz}}", "1 <no value>"),
        ("{{.None}}", "<nil>"),
        ("{{.Ports}}", "map[80/tcp:<nil> 81/tcp:[x]]"),
        ("{{.Mounts}}", "[{/src true} {/two false}]"),
        ("{{.Running}} {{.Ratio}}", "true 0.5"),
        ("{{.Id}} {{.ID}}", "0123456789abcdef 0123456789abcdef"),
        (
            "{{true}} {{3}} {{-7}} {{0x1f}} {{1.50}} {{'a'}} {{\"q\\t\\\"\"}} {{`r\\n`}}",
            "true 3 -7 31 1.5 97 q\t\" r\\n",
        ),
        (
            "{{1e30}} {{1000000.0}} {{100000.0}} {{0.00001}}",
            "1e+30 1e+06 100000 1e-05",
        ),
        (
            "{{123456789.5}} {{printf \"%g\" 1234567.0}}",
            "1.234567895e+08 1.234567e+06",
        ),
        (
            "{{$.Name}} {{with .State}}{{$.Pid}}{{.Status}}{{end}}",
            "/web 42running",
        ),
        (
            "{{(.State).Status}} {{(index .Mounts 1).Source}}",
            "running /two",
        ),
    ]);
}

#[test]
fn control() {
    check(&[
        ("{{if .Running}}up{{end}}", "up"),
        ("{{if .Empty}}some{{else}}none{{end}}", "none"),
        (
            "{{if .Empty}}1{{else if .None}}2{{else if .Running}}3{{else}}4{{end}}",
            "3",
        ),
        ("{{if not .Running}}no{{else}}yes{{end}}", "yes"),
        ("{{range .Args}}<{{.}}>{{end}}", "<-c><echo <hi>>"),
        ("{{range .Empty}}x{{else}}nothing{{end}}", "nothing"),
        (
            "{{range $i, $a := .Args}}{{$i}}={{$a}};{{end}}",
            "0=-c;1=echo <hi>;",
        ),
        (
            "{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}",
            "a:1 b:2 ",
        ),
        ("{{range $v := .Labels}}{{$v}}{{end}}", "12"),
        (
            "{{range .Mounts}}{{if .RW}}{{.Source}}{{end}}{{end}}",
            "/src",
        ),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .Mounts}}{{.Source}}{{break}}{{end}}", "/src"),
        (
            "{{range .Mounts}}{{if .RW}}{{continue}}{{end}}{{.Source}}{{end}}",
            "/two",
        ),
        ("{{with .None}}x{{else}}y{{end}}", "y"),
        ("{{with $x := .Name}}{{$x}}{{.}}{{end}}", "/web/web"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        (
            "{{range $p, $c := .Ports}}{{$p}} -> {{(index $c 0)}}{{end}}",
            "template: :1:39: executing \"\" at <index $c 0>: error calling index: index of untyped nil",
        ),
    ]);
}

#[test]
fn white_space_and_comments() {
    check(&[
        ("a  {{- .Pid -}}  b", "a42b"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a{{/* c */}}b", "ab"),
        ("{{- .Pid}} ", "42 "),
        ("{{ 3 -}}\n x", "3x"),
        ("{{-3}}", "-3"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("{{json .Labels}}", r#"{"a":"1","b":"2"}"#),
        ("{{json .State}}", r#"{"Status":"running","ExitCode":0}"#),
        (
            "{{json .Args}} {{json .None}} {{json .Empty}}",
            r#"["-c","echo <hi>"] null []"#,
        ),
        ("{{.State | json}}", r#"{"Status":"running","ExitCode":0}"#),
        ("{{join .Args \"|\"}}", "-c|echo <hi>"),
        ("{{split .Name \"e\"}}", "[/w b]"),
        (
            "{{.Name | upper}} {{lower \"ABC\"}} {{title \"one two\"}}",
            "/WEB abc One Two",
        ),
        (
            "{{truncate .Id 12}} {{slice .Id 0 4}} {{slice .Args 1}}",
            "0123456789ab 0123 [echo <hi>]",
        ),
        ("[{{pad .Name 2 3}}]", "[  /web   ]"),
        ("{{len .Name}} {{len .Args}} {{len .Labels}}", "4 2 2"),
        (
            "{{index .Args 0}} {{index .Labels \"a\"}} [{{index .Labels \"no\"}}]",
            "-c 1 []",
        ),
        ("{{println .Name .Pid}}", "/web 42\n"),
        ("{{print .Name .Name .Pid .Pid true}}", "/web/web42 42 true"),
        (
            "{{printf \"%q %5d|%-5s|%v|%x\" .Name 3 \"a\" true 255}}",
            "\"/web\"     3|a    |true|ff",
        ),
        ("{{printf \"%s %s\" .Name}}", "/web %!s(MISSING)"),
        ("{{printf \"%d\" .Name}}", "%!d(string=/web)"),
        (
            "{{printf \"%.2f%% %05d %+d %.3s\" .Ratio 42 7 .Id}}",
            "0.50% 00042 +7 012",
        ),
        ("{{printf \"a\" 1}}", "a%!(EXTRA int=1)"),
        (
            "{{printf \"%6.2f|%-8v|%08.3f|%x|%X\" 3.14159 true 3.14159 \"hi\" \"hi\"}}",
            "  3.14|true    |0003.142|6869|6869",
        ),
        ("{{printf \"%q %c%U\" 65 65 65}}", "'A' AU+0041"),
        ("{{print 1 2 \"a\" 3 4}} {{len \"äb\"}}", "1 2a3 4 3"),
        (
            "{{.Pid | printf \"%03d-%s\" 7 | printf \"<%s>\"}}",
            "<007-%!s(int=42)>",
        ),
        (
            "{{html \"<a>\"}} {{urlquery \"a b&c\"}} {{js \"it's\"}}",
            "&lt;a&gt; a+b%26c it\\'s",
        ),
    ]);
}

#[test]
fn logic_and_comparison() {
    check(&[
        (
            "{{eq .Pid 42}} {{ne .Pid 42}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}}",
            "true false true true false true",
        ),
        ("{{eq .Name \"x\" \"/web\"}}", "true"),
        ("{{eq .None nil}}", "true"),
        (
            "{{and true .Empty}} {{or .Empty .Name}} {{not 0}}",
            "[] /web true",
        ),
        ("{{and .Empty (index .Empty 3)}}", "[]"),
        (
            "{{if and .Running (eq .State.Status \"running\")}}ok{{end}}",
            "ok",
        ),
        ("{{lt \"a\" \"b\"}}", "true"),
        (
            "{{eq 1 \"1\"}}",
            "template: :1:2: executing \"\" at <eq 1 \"1\">: error calling eq: incompatible types for comparison",
        ),
    ]);
}

#[test]
fn faults_of_the_text() {
    check(&[
        (
            "{{",
            "template parsing error: template: :1: unclosed action",
        ),
        (
            "{{.Name",
            "template parsing error: template: :1: unclosed action",
        ),
        (
            "x\n{{.Name",
            "template parsing error: template: :2: unclosed action",
        ),
        (
            "{{if}}",
            "template parsing error: template: :1: missing value for if",
        ),
        (
            "{{}}",
            "template parsing error: template: :1: missing value for command",
        ),
        (
            "{{foo .Name}}",
            "template parsing error: template: :1: function \"foo\" not defined",
        ),
        (
            "{{if .Name}}",
            "template parsing error: template: :1: unexpected EOF",
        ),
        (
            "{{end}}",
            "template parsing error: template: :1: unexpected {{end}}",
        ),
        (
            "{{else}}",
            "template parsing error: template: :1: unexpected {{else}}",
        ),
        (
            "{{$x}}",
            "template parsing error: template: :1: undefined variable \"$x\"",
        ),
        (
            "{{\"abc}}",
            "template parsing error: template: :1: unterminated quoted string",
        ),
        (
            "{{.Name | 3}}",
            "template parsing error: template: :1: non executable command in pipeline stage 2",
        ),
        (
            "{{.Name |}}",
            "template parsing error: template: :1: missing value for command",
        ),
        (
            "{{break}}",
            "template parsing error: template: :1: {{break}} outside {{range}}",
        ),
        (
            "{{@}}",
            "template parsing error: template: :1: unexpected \"@\" in command",
        ),
        (
            "{{3x}}",
            "template parsing error: template: :1: bad number syntax: \"3x\"",
        ),
        (
            "{{/* x}}",
            "template parsing error: template: :1: unclosed comment",
        ),
        (
            "{{template \"x\"}}",
            "template parsing error: template: :1: {{template}} is not supported: a format is one template",
        ),
    ]);
}

#[test]
fn faults_of_the_data() {
    check(&[
        (
            "{{.Foo}}",
            "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
        ),
        (
            "{{.State.Foo}}",
            "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"",
        ),
        (
            "{{.Name.Foo}}",
            "template: :1:7: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type string",
        ),
        (
            "{{.None.Foo}}",
            "template: :1:7: executing \"\" at <.None.Foo>: nil pointer evaluating interface {}.Foo",
        ),
        (
            "{{nil}}",
            "template: :1:2: executing \"\" at <nil>: nil is not a command",
        ),
        (
            "{{index .Args 9}}",
            "template: :1:2: executing \"\" at <index .Args 9>: error calling index: reflect: slice index out of range: 9",
        ),
        (
            "{{join .Name \",\"}}",
            "template: :1:7: executing \"\" at <.Name>: wrong type for value; expected []string; got string",
        ),
        (
            "{{range .Name}}{{end}}",
            "template: :1:8: executing \"\" at <.Name>: range can't iterate over /web",
        ),
        (
            "{{json}}",
            "template: :1:2: executing \"\" at <json>: wrong number of args for json: want 1 got 0",
        ),
        (
            "{{.Name 1}}",
            "template: :1:2: executing \"\" at <.Name>: Name has arguments but cannot be invoked as function",
        ),
        (
            "{{3 4}}",
            "template: :1:2: executing \"\" at <3>: can't give argument to non-function 3",
        ),
        (
            "{{upper \"a very long argument indeed\" 4}}",
            "template: :1:2: executing \"\" at <upper>: wrong number of args for upper: want 1 got 2",
        ),
    ]);
}

#[test]
fn rows_and_headings() {
    let row = Value::Row(Row {
        columns: BTreeMap::from([("ID", "abc".into()), ("Names", "web".into())]),
        labels: Some(Labels::Of(BTreeMap::from([(
            "com.x.my-app".to_owned(),
            "yes".to_owned(),
        )]))),
    });
    let headings = Value::Row(Row {
        columns: BTreeMap::from([("ID", "CONTAINER ID".into()), ("Names", "NAMES".into())]),
        labels: Some(Labels::Heading),
    });
    let template =
        Template::parse("{{.ID}}\t{{upper .Names}}\t{{.Label \"com.x.my-app\"}}").unwrap();
    assert_eq!(template.execute(&row).unwrap(), "abc\tWEB\tyes");
    assert_eq!(
        template.heading(&headings).unwrap(),
        "CONTAINER ID\tNAMES\tmy app"
    );
    let all = Template::parse("{{json .}}").unwrap();
    assert_eq!(all.execute(&row).unwrap(), r#"{"ID":"abc","Names":"web"}"#);
    let wrong = Template::parse("{{.Foo}}").unwrap();
    assert_eq!(
        wrong.execute(&row).unwrap_err().to_string(),
        "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo: there are .ID, .Names"
    );
    let empty = Template::parse("[{{.Label \"nope\"}}]").unwrap();
    assert_eq!(empty.execute(&row).unwrap(), "[]");
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(run(&deep).contains("nested too deeply"));
    let deep = "{{if true}}".repeat(5000);
    assert!(run(&deep).contains("nested too deeply"));
    let fine = format!("{{{{{}1{}}}}}", "(".repeat(50), ")".repeat(50));
    assert_eq!(run(&fine), "1");
}

/// Whatever is typed gives a text or an error, never a panic.
#[test]
fn nothing_panics() {
    const PIECES: [&str; 40] = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        ".Name",
        ".State",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "json",
        "index",
        "printf",
        "slice",
        "len",
        "join",
        "\"%d %s\"",
        "\"",
        "`",
        "'a'",
        "0",
        "-1",
        "1e9",
        "/*",
        "*/",
        "ä",
        "nil",
        "\n",
    ];
    // A small generator (Knuth's LCG): the same cases each time.
    let mut state = 42u64;
    for _ in 0..20_000 {
        let mut text = String::from("{{");
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PIECES[(state >> 33) as usize % PIECES.len()]);
        }
        run(&text);
    }
}
