//! What is refused, with the words in which it is said. The golden files are the review.

use crate::sql::parse_statement;

/// The errors of each text, one below the other.
fn refuse(texts: &[&str]) -> String {
    let mut shown = String::new();
    for text in texts {
        match parse_statement(text) {
            Ok(statement) => panic!("{text}\nis accepted as\n{statement}"),
            Err(errors) => shown.push_str(&format!("{errors}\n\n")),
        }
    }
    shown
}

#[test]
fn structure() {
    let shown = refuse(&[
        "",
        "  -- only a comment",
        ";",
        "INSERT INTO s VALUES (1)",
        "SELCT a FROM s",
        "SELECT a FROM s; SELECT b FROM s",
        "SELECT",
        "SELECT FROM s",
        "SELECT a",
        "SELECT a FROM",
        "SELECT a FRM s",
        "SELECT * FRM s WHERE a >",
        "SELECT a b c FROM s",
        "SELECT a, FROM s",
        "SELECT , a FROM s",
        "SELECT * AS x FROM s",
        "SELECT * EXCEPT a FROM s",
        "SELECT * EXCEPT (a b) FROM s",
        "SELECT * REPLACE (a + 1) FROM s",
        "SELECT a AS FROM s",
        "SELECT a AS select FROM s",
        "SELECT a FROM s, t",
        "SELECT a FROM (SELECT b FROM s)",
        "SELECT a FROM my-stream",
        "SELECT a FROM s WHRE a > 1",
        "SELECT a FROM s WHERE a > 1 AND",
        "SELECT a FROM s WHERE a = 1 ADN b = 2",
        "SELECT a FROM s WHERE a b",
        "SELECT a FROM s GRUOP BY a",
        "SELECT a FROM s GROUP a",
        "SELECT a FROM s GROUP BY",
        "SELECT a FROM s ODER BY a",
        "SELECT a FROM s ORDER BY",
        "SELECT a FROM s ORDER BY 1",
        "SELECT a FROM s ORDER BY a, -0",
        "SELECT a FROM s ORDER BY a DSC",
        "SELECT a FROM s ORDER BY a NULLS FIRST",
        "SELECT a FROM s LIMIT 1.5",
        "SELECT a FROM s LIMIT -1",
        "SELECT a FROM s LIMIT x",
        "SELECT a FROM s LIMIT 1 OFFSET 2",
        "SELECT a FROM s UNION SELECT b FROM t",
        "SELECT a FROM s LIMIT 1 WHERE a",
        "SELECT a FROM s WHERE a WHERE b",
        "SELECT a FROM s LEFT t ON a = b",
        "SELECT a FROM s INNER JOIN t USING (a)",
        "SELECT a FROM s INNER JOIN t OM a = b",
        "SELECT a FROM s WHERE a LEFT JOIN t ON b",
        "SHOW STREAM",
        "DESCRIBE s",
        "DROP STREAM",
        "DROP STREAM a b",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn expressions() {
    let shown = refuse(&[
        "SELECT a + FROM s",
        "SELECT (a FROM s",
        "SELECT f(a, b FROM s WHERE c >",
        "SELECT f(a,) FROM s",
        "SELECT f(a b) FROM s",
        "SELECT a) FROM s",
        "SELECT a == 1 FROM s",
        "SELECT a && b FROM s",
        "SELECT a::bigint FROM s",
        "SELECT cast(a AS bigint) FROM s",
        "SELECT a->\"b\" FROM s",
        "SELECT a-> FROM s",
        "SELECT a. FROM s",
        "SELECT a->>b FROM s",
        "SELECT l[0 FROM s",
        "SELECT l[1:2:3] FROM s",
        "SELECT !a FROM s",
        "SELECT @a FROM s",
        "SELECT a IN () FROM s",
        "SELECT a IN (1, FROM s",
        "SELECT a IN (SELECT b FROM t) FROM s",
        "SELECT (SELECT b FROM t) FROM s",
        "SELECT a NOT NULL FROM s",
        "SELECT a NOT 5 FROM s",
        "SELECT a IS 5 FROM s",
        "SELECT a BETWEEN 1 FROM s",
        "SELECT a BETWEEN 1 OR 5 FROM s",
        "SELECT a LIKE FROM s",
        "SELECT CASE END FROM s",
        "SELECT CASE a FROM s",
        "SELECT CASE WHEN a END FROM s",
        "SELECT CASE WHEN a THEN 1 ELSE 2 FROM s",
        "SELECT end FROM s",
        "SELECT order FROM s",
        "SELECT 2a FROM s",
        "SELECT 1..2 FROM s",
        "SELECT 0x1F FROM s",
        "SELECT 1e999 FROM s",
        "SELECT \"abc FROM s",
        "SELECT 'abc FROM s",
        "SELECT `abc FROM s",
        "SELECT a /* b FROM s",
        "SELECT `` FROM s",
        r#"SELECT "a\qb" FROM s"#,
        r#"SELECT "a\x4" FROM s"#,
        r#"SELECT "a\ud800" FROM s"#,
        r#"SELECT "\777" FROM s"#,
        r#"SELECT "\xff" FROM s"#,
        "SELECT \"a\nb\" FROM s",
        "SELECT lag(a) OVER () FROM s",
        "SELECT lag(a) OVER (PARTITON BY b) FROM s",
        "SELECT lag(a) OVER (WHEN a WHEN b) FROM s",
        "SELECT lag(a) OVER w FROM s",
        "SELECT sum(a) FILTER (b > 1) FROM s",
        "SELECT TUMBLINGWINDOW(ss, 10) FROM s",
        "SELECT größe + FROM s",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn windows() {
    let shown = refuse(&[
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW()",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(10)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(second, 10)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(xx, 0)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(\"ss\", 10)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, a)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, 1.5)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, -1)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, 10, 5)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, 10 5)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(dd, 36501)",
        "SELECT * FROM s GROUP BY HOPPINGWINDOW(ss, 0, -5) HAVING",
        "SELECT * FROM s GROUP BY SLIDINGWINDOW(ss, 10, -1)",
        "SELECT * FROM s GROUP BY SESSIONWINDOW(ss, 10)",
        "SELECT * FROM s GROUP BY COUNTWINDOW(0)",
        "SELECT * FROM s GROUP BY COUNTWINDOW(1.5)",
        "SELECT * FROM s GROUP BY COUNTWINDOW(ss, 5)",
        "SELECT * FROM s GROUP BY COUNTWINDOW(2, 3)",
        "SELECT * FROM s GROUP BY STATEWINDOW()",
        "SELECT * FROM s GROUP BY STATEWINDOW(a, b, c)",
        "SELECT * FROM s GROUP BY COUNTWINDOW(2), COUNTWINDOW(3)",
        "SELECT * FROM s GROUP BY a + COUNTWINDOW(2)",
        "SELECT * FROM s GROUP BY SLIDINGWINDOW(ss, 10) OVER (ORDER BY a)",
        "SELECT * FROM s GROUP BY TUMBLINGWINDOW(ss, 10",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn definitions() {
    let shown = refuse(&[
        "CREATE s () WITH (TYPE=\"x\")",
        "CREATE STREM s () WITH (TYPE=\"x\")",
        "CREATE STREAM () WITH (TYPE=\"x\")",
        "CREATE STREAM s WITH (TYPE=\"x\")",
        "CREATE STREAM s ()",
        "CREATE STREAM s () WHIT (TYPE=\"x\")",
        "CREATE STREAM s () WITH ()",
        "CREATE STREAM s () WITH (TYPE)",
        "CREATE STREAM s () WITH (TYPE=mqtt)",
        "CREATE STREAM s () WITH (TYPE=\"mqtt\"",
        "CREATE STREAM s () WITH (TYPE=\"x\" | FORMAT=\"y\")",
        "CREATE STREAM s () WITH (DATASORCE=\"x\", FORMATT=\"json\", FOO=\"bar\")",
        "CREATE STREAM s () WITH (SHARED=\"maybe\", RETAIN_SIZE=\"many\", KIND=\"hot\", EXTRA=\"{a}\", STRICT_VALIDATION=\"1\")",
        "CREATE STREAM s () WITH (EXTRA=\"[1]\")",
        "CREATE TABLE t () WITH (RETAIN_SIZE=\"0\")",
        "CREATE STREAM s () WITH (TYPE=\"a\", type=\"b\")",
        "CREATE STREAM s () WITH (TYPE=\"a\") x",
        "CREATE STREAM s (a) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a int, b bigin, c varchar) WITH (TYPE=\"x\", SHARD=TRUE)",
        "CREATE STREAM s (a bigint b float) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a bigint, a float) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a array) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a array(bigint) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a struct()) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a struct(b bigint, b float)) WITH (TYPE=\"x\")",
        "CREATE STREAM s (end bigint) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a bigint DEFAULT) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a bigint DEFAULT \"x\", b boolean DEFAULT \"ja\", c datetime DEFAULT 5) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a bigint DEFAULT NULL) WITH (TYPE=\"x\")",
        "CREATE STREAM s (a bigint DEFALT 5) WITH (TYPE=\"x\")",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn all_errors_at_once() {
    let shown = refuse(&[
        "SELECT a +, b AS, f(c FROM s",
        "SELECT a + , b c d, 5 e FROM s s2 s3 WHERE a > GROUP BY b +, TUMBLINGWINDOW(sec, 0) ODER BY c LIMIT x",
        "SELECT a\nFRM s\n\tWHERE b =\n\tLIMIT 5.5",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn long_lines_are_cut_around_the_error() {
    let long = "a, ".repeat(1000);
    let shown = refuse(&[
        &format!("SELECT {long} b c d FROM s"),
        &format!("SELECT {long}"),
        &format!("SELECT a FROM s WHERE {} = = 1", "x".repeat(500)),
    ]);
    insta::assert_snapshot!(shown);
}
