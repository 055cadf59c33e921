CREATE STREAM free () WITH (DATASOURCE="free");
CREATE STREAM typed (id bigint, v float, n string) WITH (DATASOURCE="typed");
+ free {"a": 1, "b": "x", "c": null, "l": [{"p": 1, "a": 9}, {"p": 2}], "m": [1, 2]}
+ free {"a": 5, "b": "y", "d": {"e": 1}, "l": [], "m": null}
+ free {"b": "z", "m": [3]}
+ typed {"id": 1, "v": 1.5, "n": "one"}
+ typed {"id": 2, "v": null}

SELECT * FROM free;
SELECT a, b, c FROM free;
-- send nil
SELECT a, b, c, a + 1 AS n, a + 1 FROM free;
SELECT a AS x, c AS y FROM free;
SELECT * EXCEPT(l, m) FROM free;
SELECT * EXCEPT(l, m) REPLACE(a * 10 AS a, 1 AS one) FROM free;
SELECT *, b AS a FROM free;
SELECT free.*, 1 AS one FROM free;
SELECT * FROM typed;
SELECT *, v * 2 AS v FROM typed;
SELECT * EXCEPT(v) FROM typed;
SELECT a + 1 AS a, a + 2 AS b FROM free;
SELECT a + 1 AS t INVISIBLE, t * 2 AS u FROM free;
SELECT a * 2 AS d FROM free WHERE d > 5;
SELECT a * 10 AS a FROM free WHERE free.a > 1;
SELECT later + 1 AS first, id AS later FROM typed;
SELECT rand() AS r, r = r AS same FROM free WHERE r >= 0;
SELECT a + 1, b || "!", upper(b) FROM free;
SELECT meta(n) AS n FROM free;
SELECT unnest(m) AS x, b FROM free;
SELECT unnest(l), b FROM free;
SELECT *, unnest(m) AS x FROM free WHERE a = 1;
SELECT unnest(m) AS x FROM free LIMIT 1;
SELECT extract(d), a FROM free;
SELECT changed_cols("c_", true, a, b) FROM free;
SELECT lag(b) AS p, b FROM free;
SELECT lag(b) OVER (WHEN a > 1) AS p, b FROM free;
SELECT b FROM free WHERE lag(b) = "x";
SELECT latest(a, 0) AS l, had_changed(true, a) AS h FROM free;
SELECT acc_sum(a) OVER (PARTITION BY c) AS s FROM free;
SELECT row_number() AS n, b FROM free;
SELECT count(*) AS c, collect(b) AS l FROM free;
SELECT last_hit_count() AS n, b FROM free WHERE a > 0 OR b = "z";
SELECT b FROM free WHERE last_hit_count() < 1;
SELECT b FROM free LIMIT 0;
SELECT b FROM free ORDER BY b DESC;
