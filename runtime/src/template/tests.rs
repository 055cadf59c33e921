//! Goldens from Go's own `text/template`, tables for the helpers, and limits.

use serde_json::json;
use sluice_sql::Value;

use super::*;
use crate::format::json::parse_value;

fn surroundings() -> Surroundings {
    let mut n = 0u64;
    // 2026-03-04T05:06:07.089Z, and numbers that are spread well but always the same.
    let random = move || {
        n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        n.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31)
    };
    Surroundings { now: 1_772_600_767_089, random: Box::new(random) }
}

fn render(template: &str, data: &Value) -> Result<String, TemplateError> {
    let template = Template::parse(template)?;
    let mut out = String::new();
    template.render(data, &mut surroundings(), &mut out).map(|()| out)
}

fn value(json: &serde_json::Value) -> Value {
    parse_value(json.to_string().as_bytes()).unwrap()
}

/// The cases hold what Go 1.26 printed; the first line is the data of those without their own.
#[test]
fn renders_like_go() {
    let mut lines = include_str!("testdata/go.jsonl").lines();
    let base: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let base = value(&base["data"]);
    let mut wrong = Vec::new();
    let mut n_cases = 0;
    for line in lines {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let template = case["template"].as_str().unwrap();
        let data = case.get("data").map_or(base.clone(), value);
        let rendered = render(template, &data);
        n_cases += 1;
        match (&rendered, case["output"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            (Err(_), None) if case["error"] == json!(true) => {}
            (_, expected) => wrong.push(format!("{template}\n  is   {rendered:?}\n  want {expected:?}")),
        }
    }
    assert!(n_cases > 200);
    assert!(wrong.is_empty(), "{} of {n_cases} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn helpers() {
    let data = value(&json!({
        "a": 5, "f": 2.5, "s": "Hello World", "e": "", "n": null, "l": [3, 1, 2, 3], "words": ["b", "a"],
        "m": {"k": "v", "o": {"x": 1}}, "t": true, "big": 12345678,
    }));
    let cases = [
        // json, base64 and friends
        (
            r#"{{json .m}} {{toJson .l}} {{.s | json}} {{toJson .n}} {{toJson 1e6}}"#,
            r#"{"k":"v","o":{"x":1}} [3,1,2,3] "Hello World" null 1000000"#,
        ),
        (r#"{{(fromJson "{\"a\":[1,{\"b\":2}]}").a}} {{fromJson "nope"}}"#, "[1 map[b:2]] <no value>"),
        ("{{toPrettyJson .m.o}}", "{\n  \"x\": 1\n}"),
        ("{{base64 .s}} {{base64 5}} {{base64 .m.o}}", "SGVsbG8gV29ybGQ= NQ== eyJ4IjoxfQ=="),
        (
            "{{b64enc .s}} {{b64enc .s | b64dec}} {{b32enc .s}} {{b32enc .s | b32dec}}",
            "SGVsbG8gV29ybGQ= Hello World JBSWY3DPEBLW64TMMQ====== Hello World",
        ),
        ("{{sha1sum \"a\"}} {{adler32sum \"Wikipedia\"}}", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8 300286872"),
        ("{{sha256sum \"\"}}", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        // texts
        (
            "{{upper .s}} {{lower .s}} {{title \"ab cd\"}} {{untitle .s}} {{swapcase .s}}",
            "HELLO WORLD hello world Ab Cd hello world hELLO wORLD",
        ),
        (
            "{{trim \"  a \"}}|{{trimAll \"$\" \"$5$\"}}|{{trimPrefix \"-\" \"-a-\"}}|{{trimSuffix \"-\" \"-a-\"}}|{{nospace .s}}|{{initials .s}}",
            "a|5|a-|-a|HelloWorld|HW",
        ),
        ("{{contains \"World\" .s}} {{hasPrefix \"He\" .s}} {{hasSuffix \"He\" .s}}", "true true false"),
        (
            "{{quote .s 5 .n}} {{squote .s}} {{cat .s 5 .n \"x\"}}",
            "\"Hello World\" \"5\" 'Hello World' Hello World 5 x",
        ),
        (
            "{{replace \" \" \"-\" .s}} {{repeat 3 \"ab\"}} {{substr 0 5 .s}} {{trunc 3 .s}} {{trunc -5 .s}}",
            "Hello-World ababab Hello Hel World",
        ),
        ("{{abbrev 8 .s}} {{abbrevboth 5 10 \"1234 5678 9123\"}} {{abbrev 20 .s}}", "Hello... ...5678... Hello World"),
        (
            "{{indent 2 \"a\\nb\"}}|{{nindent 1 \"c\"}}|{{wrap 5 \"aa bb cc\"}}|{{wrapWith 3 \"/\" \"abcdefg\"}}",
            "  a\n  b|\n c|aa bb\ncc|abc/def/g",
        ),
        ("{{plural \"one\" \"many\" 1}} {{plural \"one\" \"many\" 2}}", "one many"),
        (
            "{{snakecase \"FirstName\"}} {{kebabcase \"FirstName\"}} {{camelcase \"http_server\"}} {{snakecase \"HTTPServer20\"}}",
            "first_name first-name HttpServer http_server20",
        ),
        (
            "{{(split \"$\" \"a$b$c\")._1}} {{splitList \",\" \"a,b\"}} {{(splitn \"$\" 2 \"a$b$c\")._1}} {{toString 5}}",
            "b [a b] b$c 5",
        ),
        // numbers
        (
            "{{add 1 2 .a}} {{add1 .a}} {{sub .a 2}} {{mul 2 3 4}} {{div 7 2}} {{mod 7 2}} {{max 1 .a 3}} {{min 4 .a}}",
            "8 6 3 24 3 1 5 4",
        ),
        (
            "{{addf 0.1 0.2}} {{subf 7.5 2}} {{mulf 1.5 2}} {{divf 10 4}} {{ceil 1.2}} {{floor 1.8}} {{round 3.14159 2}} {{round -2.5 0}}",
            "0.3 5.5 3 2.5 2 1 3.14 -3",
        ),
        (
            "{{atoi \"42\"}} {{int .f}} {{int64 \"7\"}} {{float64 \"1.5\"}} {{toDecimal \"777\"}} {{int \"x\"}}",
            "42 2 7 1.5 511 0",
        ),
        (
            "{{until 3}} {{untilStep 3 9 3}} {{seq 5}} {{seq 0 2 6}} {{seq 3 1}} {{range until 2}}x{{end}}",
            "[0 1 2] [3 6] 1 2 3 4 5 0 2 4 6 3 2 1 xx",
        ),
        // lists
        (
            "{{first .l}} {{last .l}} {{rest .l}} {{initial .l}} {{reverse .l}} {{uniq .l}} {{has 2 .l}} {{without .l 3}}",
            "3 3 [1 2 3] [3 1 2] [3 2 1 3] [3 1 2] true [1 2]",
        ),
        (
            "{{append .l 9}} {{prepend .l 9}} {{concat .l (list \"x\")}} {{chunk 3 .l}} {{compact (list 0 1 \"\" \"a\")}} {{list}}",
            "[3 1 2 3 9] [9 3 1 2 3] [3 1 2 3 x] [[3 1 2] [3]] [1 a] []",
        ),
        (
            "{{join \"-\" .l}} {{sortAlpha .words}} {{join \",\" \"x\"}} {{slice .l 1 3}} {{first (list)}}",
            "3-1-2-3 [a b] x [1 2] <no value>",
        ),
        // maps and defaults
        (
            "{{$d := dict \"a\" 1}}{{$_ := set $d \"b\" 2}}{{$d}} {{get $d \"a\"}} {{hasKey $d \"z\"}} {{$_ := unset $d \"a\"}}{{$d}}",
            "map[a:1 b:2] 1 false map[b:2]",
        ),
        (
            "{{keys .m}} {{values .m.o}} {{pick .m \"k\"}} {{omit .m \"k\"}} {{pluck \"x\" .m.o .m}} {{dig \"o\" \"x\" 0 .m}} {{dig \"o\" \"y\" 9 .m}}",
            "[k o] [1] map[k:v] map[o:map[x:1]] [1] 1 9",
        ),
        (
            "{{merge (dict \"a\" 1) (dict \"a\" 2 \"b\" 3)}} {{mergeOverwrite (dict \"a\" 1) (dict \"a\" 2)}}",
            "map[a:1 b:3] map[a:2]",
        ),
        ("{{$_ := set .m \"k\" \"changed\"}}{{.m.k}}", "v"),
        (
            "{{default 7 .e}} {{default 7 .a}} {{.n | default \"d\"}} {{empty .e}} {{coalesce .n .e .a}} {{ternary 1 2 .t}} {{all .t .a}} {{any .n .e}}",
            "7 5 d true 5 1 true false",
        ),
        (
            "{{typeOf .a}} {{kindOf .l}} {{kindIs \"map\" .m}} {{typeIs \"string\" .s}} {{deepEqual .l (list 3 1 2 3)}}",
            "int slice true true true",
        ),
        // regular expressions
        (
            r#"{{regexMatch "^H.*d$" .s}} {{regexFind "[a-z]+" .s}} {{regexFindAll "[lo]" .s 2}} {{regexSplit "o" .s -1}} {{regexQuoteMeta "a.b"}}"#,
            r"true ello [l l] [Hell  W rld] a\.b",
        ),
        (
            r#"{{regexReplaceAll "(\\w+) (\\w+)" .s "${2} $1"}} {{regexReplaceAllLiteral "l" "all" "$1"}}"#,
            "World Hello a$1$1",
        ),
        // dates
        (
            r#"{{date "2006-01-02 15:04:05.000 MST" now}} {{now | htmlDate}} {{unixEpoch now}}"#,
            "2026-03-04 05:06:07.089 UTC 2026-03-04 1772600767",
        ),
        (
            r#"{{dateInZone "Mon Jan _2 3:04PM -07:00" now "Europe/Berlin"}} {{date "02/01/06" 0}}"#,
            "Wed Mar  4 6:06AM +01:00 01/01/70",
        ),
        (
            r#"{{now | dateModify "-1h30m" | date "15:04"}} {{ago (dateModify "-90s" now)}} {{duration 3725}} {{durationRound "2h10m5s"}}"#,
            "03:36 1m30s 1h2m5s 2h",
        ),
        (
            r#"{{toDate "2006-01-02" "2024-02-29" | date "Monday, 2 January"}} {{(toDate "2006-01-02 15:04:05 -0700" "2024-02-29 10:00:00 +0200") | unixEpoch}}"#,
            "Thursday, 29 February 1709193600",
        ),
        // by value, whatever the kind of number
        (
            r#"{{eq .a 5.0}} {{lt .f 3}} {{printf "%.1f %d" .a 3.0}} {{if gt .a 4.5}}y{{end}} {{.big}}"#,
            "true true 5.0 3 y 12345678",
        ),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template, &data).map_err(|error| error.to_string()).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn randomness_comes_from_outside() {
    let template = "{{uuidv4}} {{randAlphaNum 8}} {{randNumeric 4}} {{randInt 5 10}} {{shuffle \"abc\"}}";
    let (first, second) = (render(template, &Value::Null).unwrap(), render(template, &Value::Null).unwrap());
    assert_eq!(first, second);
    let parts: Vec<&str> = first.split(' ').collect();
    assert_eq!(uuid::Uuid::parse_str(parts[0]).unwrap().get_version_num(), 4);
    assert!(parts[1].len() == 8 && parts[2].len() == 4 && parts[2].bytes().all(|byte| byte.is_ascii_digit()));
    assert!((5..10).contains(&parts[3].parse().unwrap()));
}

#[test]
fn errors_say_where_and_what() {
    let data = value(&json!({"s": "x", "l": [1]}));
    let cases = [
        ("{{env \"HOME\"}}", "1:3: `env` is not offered: templates can't read the environment, files or the network"),
        (
            "{{expandenv \"$HOME\"}}",
            "1:3: `expandenv` is not offered: templates can't read the environment, files or the network",
        ),
        (
            "{{getHostByName \"x\"}}",
            "1:3: `getHostByName` is not offered: templates can't read the environment, files or the network",
        ),
        ("a\nb {{uper .s}}", "2:5: there is no function `uper`; did you mean `upper`?"),
        ("{{if .s}}", "1:10: unexpected end of the template: expected {{else}} or {{end}}"),
        ("{{.s", "1:1: unclosed action: expected `}}`"),
        ("é{{$x}}", "1:4: variable $x is not defined"),
        ("{{template \"a\"}}", "1:3: template \"a\" is not defined"),
        ("{{trunc 5}}", "1:3: `trunc` takes 2 arguments, not 1"),
        ("{{.s | .t}}", "1:8: behind `|` there must be a function, which takes the value"),
        ("{{.s.x}}", "1:3: can't read field x of a value of type string"),
        ("{{index .l 5}}", "1:3: index: index 5 is beyond the 1 items"),
        ("{{fail \"no id\"}}", "1:3: fail: no id"),
        ("{{div 1 0}}", "1:3: div: division by zero"),
        ("{{eq .s 1}}", "1:3: eq: can't compare values of types string and int"),
        ("{{regexMatch \"(\" .s}}", "1:3: regexMatch: the first argument is no regular expression, or too large a one"),
    ];
    for (template, expected) in cases {
        let error = render(template, &data).map_err(|error| error.to_string());
        assert_eq!(error, Err(expected.to_owned()), "{template}");
    }
}

#[test]
fn a_template_can_not_run_away() {
    let cases = [
        ("{{range 100000000}}{{range 100000000}}{{end}}{{end}}", "steps"),
        ("{{range 100000000}}0123456789012345678901234567890123456789{{end}}", "longer than"),
        ("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "deeper than"),
        ("{{repeat 1000000000 \"x\"}}", "longer than"),
        ("{{until 1000000000}}", "more than"),
        ("{{seq 1000000000}}", "more than"),
        ("{{randAlpha 1000000000}}", "count"),
        ("{{indent 1000000000 \"x\"}}", "count"),
        ("{{printf \"%1000000000d\" 1}}", "width"),
        ("{{$d := dict}}{{$_ := set $d \"d\" $d}}{{$d}}", "nested deeper"),
        ("{{$s := \"xxxxxxxxxxxxxxxx\"}}{{range 40}}{{$s = print $s $s}}{{end}}", "longer than"),
        ("{{$l := until 1000}}{{range 40}}{{$l = concat $l $l}}{{end}}", "more than"),
    ];
    for (template, expected) in cases {
        let error = render(template, &Value::Null).unwrap_err();
        assert!(error.message.contains(expected), "{template}: {error}");
    }
    let nested = format!("{}1{}", "{{".to_owned() + &"(".repeat(1001), ")".repeat(1001) + "}}");
    assert!(Template::parse(&nested).unwrap_err().message.contains("nested deeper"));
    assert!(Template::parse(&"{{if 1}}".repeat(1000)).unwrap_err().message.contains("nested deeper"));
}

#[test]
fn knows_whether_dot_must_be_a_row() {
    let cases = [
        ("out/{{.id}}", true),
        ("{{$.id}}", true),
        ("{{(.).id}}", true),
        ("{{if .a}}x{{end}}", true),
        ("{{upper .a}}", true),
        ("fixed", false),
        ("{{.}}", false),
        ("{{(index . 0).id}}", false),
        ("{{range .}}{{.id}}{{end}}", false),
        ("{{with index . 0}}{{.id}}{{end}}", false),
        ("{{range .}}{{$.id}}{{end}}", true),
        ("{{range .}}{{end}}{{.id}}", true),
        ("{{define \"x\"}}{{.id}}{{end}}{{range .}}{{template \"x\" .}}{{end}}", false),
    ];
    for (template, expected) in cases {
        assert_eq!(Template::parse(template).unwrap().reads_dot_fields(), expected, "{template}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_it_panic(text in r#"([a-z .$"'`|(){}:=0-9+-]|\{\{|\}\}|range|end|if|else|index|printf|slice|é){0,24}"#) {
        let data = value(&json!({"a": [1, {"b": "é"}], "s": "x"}));
        let _ = render(&text, &data);
        let _ = render(&format!("{{{{{text}}}}}"), &data);
    }
}
