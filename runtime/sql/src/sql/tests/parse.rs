//! Tables of texts and the trees that they become.

use crate::function::Registry;
use crate::plan::{Catalog, RuleOptions, SourceDef, plan_rule};
use crate::sql::ast::*;
use crate::sql::{Span, parse_statement, parse_statements};

/// The expression with a bracket around every node, so that precedence shows.
fn shape(expr: &Expr) -> String {
    let list = |list: &[Expr]| list.iter().map(shape).collect::<Vec<_>>().join(" ");
    let not = |negated: bool| if negated { "not-" } else { "" };
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Call(_) => expr.to_string(),
        ExprKind::Member(object, member) => format!("[{} -> {member}]", shape(object)),
        ExprKind::Index(array, index) => format!("[{} at {}]", shape(array), shape(index)),
        ExprKind::Slice(array, from, to) => {
            let bound = |bound: &Option<Box<Expr>>| bound.as_deref().map_or("_".to_owned(), shape);
            format!("[{} slice {} {}]", shape(array), bound(from), bound(to))
        }
        ExprKind::Unary(op, operand) => format!("[{op} {}]", shape(operand)),
        ExprKind::Binary(op, left, right) => format!("[{} {op} {}]", shape(left), shape(right)),
        ExprKind::InList { operand, list: elements, negated } => {
            format!("[{} {}in-list {}]", shape(operand), not(*negated), list(elements))
        }
        ExprKind::InArray { operand, array, negated } => {
            format!("[{} {}in-array {}]", shape(operand), not(*negated), shape(array))
        }
        ExprKind::Between { operand, low, high, negated } => {
            format!("[{} {}between {} {}]", shape(operand), not(*negated), shape(low), shape(high))
        }
        ExprKind::Like { operand, pattern, negated } => {
            format!("[{} {}like {}]", shape(operand), not(*negated), shape(pattern))
        }
        ExprKind::IsNull { operand, negated } => format!("[{} {}null]", shape(operand), not(*negated)),
        ExprKind::Case { operand, branches, otherwise } => {
            let branches: String = branches.iter().map(|(c, r)| format!(" {}: {}", shape(c), shape(r))).collect();
            let part = |part: &Option<Box<Expr>>| part.as_deref().map_or("_".to_owned(), shape);
            format!("[case {}{branches} else {}]", part(operand), part(otherwise))
        }
        ExprKind::Nested(inner) => format!("({})", shape(inner)),
    }
}

fn select(sql: &str) -> Select {
    match parse_statement(sql) {
        Ok(Statement::Select(select)) => *select,
        Ok(other) => panic!("not a query: {other}"),
        Err(errors) => panic!("{sql}\n{errors}"),
    }
}

fn first_expr(text: &str) -> Expr {
    match select(&format!("SELECT {text} FROM s")).items.remove(0).kind {
        SelectKind::Expr(expr) => expr,
        SelectKind::Star { .. } => panic!("{text} is a star"),
    }
}

#[test]
fn expressions() {
    let cases = [
        // precedence
        ("a + b * c", "[a + [b * c]]"),
        ("a * b + c", "[[a * b] + c]"),
        ("a - b - c", "[[a - b] - c]"),
        ("a / b % c & d", "[[[a / b] % c] & d]"),
        ("a | b ^ c + d", "[[[a | b] ^ c] + d]"),
        ("a + b > c AND d OR e", "[[[[a + b] > c] AND d] OR e]"),
        ("a OR b AND c", "[a OR [b AND c]]"),
        ("NOT a = b AND c", "[[NOT [a = b]] AND c]"),
        ("NOT NOT a", "[NOT [NOT a]]"),
        ("a = b = c", "[[a = b] = c]"),
        ("a%b", "[a % b]"),
        ("a&b|c^d", "[[[a & b] | c] ^ d]"),
        ("a<-1", "[a < -1]"),
        ("a>-b", "[a > [- b]]"),
        ("a=-1", "[a = -1]"),
        ("a!=-1", "[a != -1]"),
        ("a||'x'", "[a || \"x\"]"),
        ("a->b-1", "[[a -> b] - 1]"),
        ("x/y*2", "[[x / y] * 2]"),
        ("(a OR b) AND c", "[([a OR b]) AND c]"),
        ("a || \"-\" || b = c", "[[[a || \"-\"] || b] = c]"),
        // access
        ("x * c[0]", "[x * [c at 0]]"),
        ("a->b > 3", "[[a -> b] > 3]"),
        ("a->b[0]->c", "[[[a -> b] at 0] -> c]"),
        ("a.b.c[1].d", "[[a.b.c at 1] -> d]"),
        ("o - > k", "[o -> k]"),
        ("a->`b c`", "[a -> `b c`]"),
        ("-a->b", "[- [a -> b]]"),
        ("f(x)->y", "[f(x) -> y]"),
        ("l[]", "[l slice _ _]"),
        ("l[:]", "[l slice _ _]"),
        ("l[1:]", "[l slice 1 _]"),
        ("l[:-1]", "[l slice _ -1]"),
        ("l[i + 1:j]", "[l slice [i + 1] j]"),
        ("l[-1]", "[l at -1]"),
        // minus
        ("-1", "-1"),
        ("- 1", "-1"),
        ("a - 1", "[a - 1]"),
        ("a - -1", "[a - -1]"),
        ("a -.5", "[a - 0.5]"),
        ("-a * b", "[[- a] * b]"),
        ("-(1)", "[- (1)]"),
        ("3 - - a", "[3 - [- a]]"),
        // predicates
        ("a IN (1, 2)", "[a in-list 1 2]"),
        ("a NOT IN (1)", "[a not-in-list 1]"),
        ("a IN b", "[a in-array b]"),
        ("a NOT IN b->c AND d", "[[a not-in-array [b -> c]] AND d]"),
        ("a IN (b)", "[a in-list b]"),
        ("a BETWEEN 1 AND 5 AND c", "[[a between 1 5] AND c]"),
        ("a NOT BETWEEN b + 1 AND c * 2", "[a not-between [b + 1] [c * 2]]"),
        ("a LIKE \"x%\" OR b NOT LIKE 'y_'", "[[a like \"x%\"] OR [b not-like \"y_\"]]"),
        ("a + 1 IS NULL", "[[a + 1] null]"),
        ("a IS NOT NULL AND b", "[[a not-null] AND b]"),
        ("a <> 1", "[a != 1]"),
        ("a ! = 1", "[a != 1]"),
        ("a < = 1 AND b > = 2", "[[a <= 1] AND [b >= 2]]"),
        // CASE
        ("CASE WHEN a THEN 1 END", "[case _ a: 1 else _]"),
        ("CASE a WHEN 1 THEN \"x\" WHEN 2 THEN \"y\" ELSE b END", "[case a 1: \"x\" 2: \"y\" else b]"),
        ("CASE WHEN CASE WHEN a THEN b END THEN c END + 1", "[[case _ [case _ a: b else _]: c else _] + 1]"),
        // literals
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5.0"),
        ("1e3", "1000.0"),
        ("1.5E-3", "0.0015"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("99999999999999999999", "9223372036854775807"),
        ("- -0", "[- 0]"),
        ("TRUE", "TRUE"),
        ("false", "FALSE"),
        ("null", "NULL"),
        // texts
        (r#""a\tb\n""#, r#""a\tb\n""#),
        (r#"'it\'s "x"'"#, r#""it's \"x\"""#),
        ("'it''s'", "\"it's\""),
        (r#""\x41\101\u00e9\U0001F600""#, "\"AAé😀\""),
        (r#""\xc3\xa9""#, "\"é\""),
        (r#""50\%""#, r#""50\\%""#),
        ("\"größe\"", "\"größe\""),
        // names
        ("`select`", "`select`"),
        ("`a.b`", "`a.b`"),
        ("größe", "größe"),
        ("_x", "_x"),
        ("interval", "interval"),
        ("ss", "ss"),
        ("offset", "`offset`"),
        ("x.`end`", "x.`end`"),
        // calls
        ("f()", "f()"),
        ("COUNT(*)", "COUNT(*)"),
        ("changed_cols(\"p\", true, *)", "changed_cols(\"p\", TRUE, *)"),
        ("count(DISTINCT a)", "count(DISTINCT a)"),
        ("count(distinct)", "count(`distinct`)"),
        ("left(a, 2)", "left(a, 2)"),
        ("replace(a, \"x\", \"y\")", "replace(a, \"x\", \"y\")"),
        ("`f g`(a)", "`f g`(a)"),
        ("a IN `f`(b)", "[a in-array f(b)]"),
        ("meta(src.key->sub)", "meta(src.key->sub)"),
        ("sum(a) FILTER(WHERE b > 1)", "sum(a) FILTER (WHERE b > 1)"),
        ("lag(a) OVER (PARTITION BY b, c WHEN d > 1)", "lag(a) OVER (PARTITION BY b, c WHEN d > 1)"),
        ("lag(a) OVER (WHEN d PARTITION BY b)", "lag(a) OVER (PARTITION BY b WHEN d)"),
        (
            "row_number() OVER (PARTITION BY a ORDER BY b DESC, c)",
            "row_number() OVER (PARTITION BY a ORDER BY b DESC, c)",
        ),
        // comments
        ("a /* b */ + -- c\n d", "[a + d]"),
    ];
    for (text, expected) in cases {
        assert_eq!(shape(&first_expr(text)), expected, "{text}");
    }
}

#[test]
fn statements() {
    let same = "";
    let cases = [
        ("SELECT * FROM s", same),
        ("select a, b as c from s;", "SELECT a, b AS c FROM s"),
        ("SELECT a b FROM s t", "SELECT a AS b FROM s AS t"),
        ("SELECT DISTINCT a FROM s", same),
        ("SELECT distinct FROM s", "SELECT `distinct` FROM s"),
        ("SELECT a AS b INVISIBLE, c INVISIBLE FROM s", same),
        ("SELECT * EXCEPT(a, b) REPLACE(c + 1 AS c) FROM s", "SELECT * EXCEPT (a, b) REPLACE (c + 1 AS c) FROM s"),
        ("SELECT * REPLACE (1 AS a, 2 AS b) EXCEPT (c) FROM s", "SELECT * EXCEPT (c) REPLACE (1 AS a, 2 AS b) FROM s"),
        ("SELECT s.*, t.a FROM s", same),
        ("SELECT 1 AS end1 FROM `my stream`", same),
        ("SELECT * FROM demo/a/+/b#", "SELECT * FROM `demo/a/+/b#`"),
        ("SELECT * FROM /a/1 AS x", "SELECT * FROM `/a/1` AS x"),
        ("SELECT * FROM a.b.c", "SELECT * FROM `a.b.c`"),
        ("SELECT * FROM a JOIN b ON a.id = b.id", "SELECT * FROM a INNER JOIN b ON a.id = b.id"),
        (
            "SELECT * FROM a LEFT OUTER JOIN b AS x ON a.id = x.id RIGHT JOIN c ON TRUE FULL OUTER JOIN d ON TRUE CROSS JOIN e",
            "SELECT * FROM a LEFT JOIN b AS x ON a.id = x.id RIGHT JOIN c ON TRUE FULL JOIN d ON TRUE CROSS JOIN e",
        ),
        (
            "SELECT a, count(*) FROM s WHERE b GROUP BY a, TUMBLINGWINDOW(ss, 10) HAVING count(*) > 1 ORDER BY a ASC, b DESC LIMIT 5",
            "SELECT a, count(*) FROM s WHERE b GROUP BY a, TUMBLINGWINDOW(SS, 10) HAVING count(*) > 1 ORDER BY a, b DESC LIMIT 5",
        ),
        ("SELECT * FROM s GROUP BY tumblingWindow(mi, 1), a", "SELECT * FROM s GROUP BY a, TUMBLINGWINDOW(MI, 1)"),
        ("SELECT * FROM s ORDER BY 1 - a, (1)", same),
        ("SELECT * FROM s GROUP BY HOPPINGWINDOW(DD, 2, 1)", same),
        ("SELECT * FROM s GROUP BY SLIDINGWINDOW(HH, 2)", same),
        ("SELECT * FROM s GROUP BY SLIDINGWINDOW(MS, 2, 1) OVER (WHEN a > 1)", same),
        ("SELECT * FROM s GROUP BY SLIDINGWINDOW(MS, 2, 0)", "SELECT * FROM s GROUP BY SLIDINGWINDOW(MS, 2)"),
        ("SELECT * FROM s GROUP BY SESSIONWINDOW(SS, 20, 5) FILTER (WHERE a)", same),
        ("SELECT * FROM s GROUP BY COUNTWINDOW(5)", same),
        ("SELECT * FROM s GROUP BY COUNTWINDOW(5, 2)", same),
        ("SELECT * FROM s GROUP BY STATEWINDOW(a > 1, b) FILTER (WHERE c) OVER (PARTITION BY d, e)", same),
        ("SELECT * FROM s GROUP BY STATEWINDOW(a) OVER (WHEN b PARTITION BY d)", same),
        ("SHOW streams", "SHOW STREAMS"),
        ("SHOW TABLES", same),
        ("DESCRIBE STREAM a", same),
        ("EXPLAIN TABLE a", same),
        ("DROP STREAM `a-b`;", "DROP STREAM `a-b`"),
        ("CREATE STREAM s () WITH (DATASOURCE=\"x\", FORMAT=\"json\")", same),
        (
            "create table t (a bigint, b array(array(float)), c struct(d string, e struct(f bytea)), g datetime, h boolean,)
             with (TYPE=\"file\" KIND='lookup',, shared=TRUE, RETAIN_SIZE=3)",
            "CREATE TABLE t (a BIGINT, b ARRAY(ARRAY(FLOAT)), c STRUCT(d STRING, e STRUCT(f BYTEA)), g DATETIME, h BOOLEAN) \
             WITH (TYPE=\"file\", KIND=\"lookup\", shared=\"true\", RETAIN_SIZE=\"3\")",
        ),
        (
            r#"CREATE STREAM s (a BIGINT DEFAULT "12", b FLOAT DEFAULT -1, c STRING DEFAULT 5, d BOOLEAN DEFAULT "true", e BIGINT DEFAULT 2.0) WITH (EXTRA="{\"a\": 1}")"#,
            r#"CREATE STREAM s (a BIGINT DEFAULT 12, b FLOAT DEFAULT -1.0, c STRING DEFAULT "5", d BOOLEAN DEFAULT TRUE, e BIGINT DEFAULT 2) WITH (EXTRA="{\"a\": 1}")"#,
        ),
    ];
    for (sql, expected) in cases {
        match parse_statement(sql) {
            Ok(statement) => assert_eq!(statement.to_string(), if expected == same { sql } else { expected }, "{sql}"),
            Err(errors) => panic!("{sql}\n{errors}"),
        }
    }
}

#[test]
fn spans_cover_the_whole_node() {
    let sql = "SELECT\n  lag(a) OVER (WHEN b) AS x,\n  l[0] + f(y) FILTER (WHERE z)\nFROM s GROUP BY COUNTWINDOW(2) FILTER (WHERE q)";
    let text_at = |span: Span| {
        assert_eq!(span.line, span.end_line, "{span:?}");
        let line = sql.lines().nth(span.line as usize - 1).unwrap();
        let n_chars = (span.end_column - span.column) as usize;
        line.chars().skip(span.column as usize - 1).take(n_chars).collect::<String>()
    };
    let select = select(sql);
    assert_eq!(text_at(select.items[0].span), "lag(a) OVER (WHEN b) AS x");
    assert_eq!(text_at(select.items[0].alias.as_ref().unwrap().span), "x");
    let SelectKind::Expr(sum) = &select.items[1].kind else { panic!("not an expression") };
    assert_eq!(text_at(sum.span), "l[0] + f(y) FILTER (WHERE z)");
    let ExprKind::Binary(_, left, right) = &sum.kind else { panic!("not a sum") };
    assert_eq!(text_at(left.span), "l[0]");
    assert_eq!(text_at(right.span), "f(y) FILTER (WHERE z)");
    assert_eq!(text_at(select.window.unwrap().span), "COUNTWINDOW(2) FILTER (WHERE q)");
    assert_eq!((select.span.line, select.span.column, select.span.end_line), (1, 1, 4));
}

#[test]
fn many_statements() {
    let (statements, errors) =
        parse_statements(";SHOW STREAMS;; SELECT a FROM s;\nSELECT FROM s;\nSHOW TABLES; DROP x");
    let printed: Vec<String> = statements.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["SHOW STREAMS", "SELECT a FROM s", "SHOW TABLES"]);
    let places: Vec<(u32, u32)> =
        errors.unwrap().errors.iter().map(|error| (error.span.line, error.span.column)).collect();
    assert_eq!(places, [(2, 8), (3, 19)]);
    assert_eq!(parse_statements(" -- nothing"), (Vec::new(), None));
}

#[test]
fn long_inputs_are_linear_and_deep_ones_are_refused() {
    let many = |text: &str| text.repeat(20_000);
    let accepted = [
        format!("SELECT {} a FROM s", many("a, ")),
        format!("SELECT a FROM s WHERE a IN (1{})", many(", 1")),
        format!("SELECT f(1{}) FROM s", many(", 1")),
        format!("SELECT CASE {} END FROM s", many("WHEN a THEN 1 ")),
        format!("SELECT a{} FROM s", many(".a")),
        format!("SELECT \"{}\" FROM s", many("\\n")),
        format!("{}SHOW STREAMS", many(";")),
    ];
    for sql in accepted {
        let parsed = parse_statement(&sql);
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
    let refused = [
        (format!("SELECT {} FROM s", many("(")), "nested too deeply"),
        (format!("SELECT {}a FROM s", many("- ")), "nested too deeply"),
        (format!("SELECT {}a FROM s", many("NOT ")), "nested too deeply"),
        (format!("SELECT {}a FROM s", many("f(")), "nested too deeply"),
        (format!("SELECT {}a FROM s", many("a[")), "nested too deeply"),
        (format!("SELECT {} FROM s", many("CASE WHEN ")), "nested too deeply"),
        (format!("SELECT a{} FROM s", many(" + a")), "more than 100 operators"),
        (format!("SELECT a{} FROM s", many(" OR a")), "more than 100 operators"),
        (format!("SELECT a{} FROM s", many("->a")), "more than 100 operators"),
        (format!("SELECT a{} FROM s", many("[0]")), "more than 100 operators"),
        (format!("CREATE STREAM s (a {}", many("ARRAY(")), "nested too deeply"),
        (format!("CREATE STREAM s (a {}", many("STRUCT(a ")), "nested too deeply"),
        (many("SELECT "), "expected"),
        (format!("SELECT {}\"", many("\"\"")), "not closed"),
        (many(")"), "expected"),
    ];
    for (sql, expected) in refused {
        let errors = parse_statement(&sql).unwrap_err();
        let shown = errors.to_string();
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.len() < 20_000, "the message has {} bytes", shown.len());
    }
}

/// A test's thread has the 2 MB of stack that the runtime's threads have.
#[test]
fn the_highest_trees_can_be_planned() {
    let mut catalog = Catalog::default();
    catalog.sources.insert("s".into(), SourceDef::default());
    let highest = [
        format!("SELECT a{} AS x FROM s", " + a".repeat(99)),
        format!("SELECT a FROM s WHERE a{}", " OR a = 1".repeat(98)),
        format!("SELECT a{} AS x FROM s", "->a".repeat(99)),
        format!("SELECT {}a{} AS x FROM s", "(".repeat(49), ")".repeat(49)),
        format!("SELECT {}a{} AS x FROM s", "abs(".repeat(49), ")".repeat(49)),
        format!("SELECT {}a{} AS x FROM s", "CASE WHEN (a = 1) THEN 2 ELSE ".repeat(47), " END".repeat(47)),
        format!("SELECT {}a{} AS x FROM s", "(1 + ".repeat(24), ")".repeat(24)),
    ];
    for sql in highest {
        let planned = plan_rule(&sql, &catalog, &Registry::builtin(), &RuleOptions::default());
        assert!(planned.is_ok(), "{}", planned.unwrap_err());
    }
}
