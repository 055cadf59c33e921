CREATE STREAM s (id bigint, i bigint, j bigint, f float, t string, b boolean, a array(bigint), o struct(k bigint, d struct(z string))) WITH (DATASOURCE="s");
CREATE STREAM free () WITH (DATASOURCE="free");
+ s {"id": 1, "i": 7, "j": 2, "f": 1.5, "t": "abc", "b": true, "a": [1, 2, 3], "o": {"k": 5, "d": {"z": "deep"}}}
+ s {"id": 2, "i": -7, "j": 0, "f": 0, "t": "", "b": false, "a": [], "o": {"k": null}}
+ s {"id": 3, "i": null, "j": 3, "f": -2.5, "t": null, "b": null, "a": null, "o": null}
+ s {"id": 4}
+ free {"id": 1, "x": 7, "y": 2, "t": "10", "l": [1, "a", null], "o": {"k": 1, "l": [{"n": "in"}]}}
+ free {"id": 2, "x": 9007199254740993, "y": 0.5, "t": 10, "l": []}
+ free {"id": 3, "x": 9223372036854775807, "y": 1, "l": [5]}
+ free {"id": 4, "x": null, "y": true, "o": 5}

SELECT id, i + j AS a, i - j AS s, i * j AS m FROM s;
SELECT id, i / j AS d, i % j AS r FROM s;
SELECT id, f / j AS d, f % 2 AS r FROM s;
-- send error
SELECT id, i / j AS d FROM s;
SELECT id, i & j AS a, i | j AS o, i ^ j AS x FROM s;
SELECT id, b & TRUE AS a, b | FALSE AS o, b ^ TRUE AS x FROM s;
SELECT id, i = j AS e, i != j AS n, i < j AS l, i <= j AS le, i > j AS g, i >= j AS ge FROM s;
SELECT id, t = "abc" AS e, t < "b" AS l, b = TRUE AS bt FROM s;
SELECT id, t > i AS bad FROM s;
SELECT id, b > FALSE AS bad FROM s;
SELECT id, a = a AS bad FROM s;
SELECT id, b AND i > 0 AS x, b OR i > 0 AS y, NOT b AS z FROM s;
SELECT id, i AND b AS bad FROM s;
SELECT id FROM s WHERE i;
SELECT id FROM s WHERE t IS NULL;
SELECT id FROM s WHERE t IS NOT NULL AND NOT t = "";
SELECT id FROM s WHERE i IN (7, -7, NULL);
SELECT id FROM s WHERE i NOT IN (7);
SELECT id FROM s WHERE 2 IN a;
SELECT id FROM s WHERE 2 NOT IN a;
SELECT id FROM s WHERE 2 IN t;
SELECT id FROM s WHERE i BETWEEN -10 AND j + 10;
SELECT id FROM s WHERE i NOT BETWEEN 0 AND 10;
SELECT id FROM s WHERE t LIKE "a_c";
SELECT id FROM s WHERE t NOT LIKE "a%";
SELECT id, t || "-" || t AS c FROM s;
SELECT id, - i AS m, -f AS n, - t AS bad FROM s;
SELECT id, CASE WHEN i > 0 THEN "plus" WHEN i < 0 THEN "minus" END AS w FROM s;
SELECT id, CASE j WHEN 0 THEN "none" WHEN 2 THEN "two" ELSE "more" END AS w FROM s;
SELECT id, CASE t WHEN 5 THEN 1 ELSE 2 END AS bad FROM s;
SELECT id, o->k AS k, o->d->z AS z, o.d.z AS y, a->k AS bad FROM s;
SELECT id, a[0] AS x FROM s;
SELECT id, a[-1] AS x, a[1:] AS y, a[:2] AS z, a[:] AS w FROM s WHERE id = 1;
SELECT id, a[0:5] AS bad FROM s WHERE id = 1;
SELECT id, a[i - 6:j] AS x FROM s WHERE id = 1;
SELECT id, a[b] AS bad FROM s WHERE id = 1;
SELECT id, x / y AS d, x % y AS r, x + y AS a, x * y AS m FROM free;
SELECT id, x, x + 1 AS n, x * 2 AS m FROM free;
SELECT id, x > 5 AS g, x = 7.0 AS e FROM free;
SELECT id, t = 10 AS e FROM free;
SELECT id, o->l[0]->n AS n, o->k AS k FROM free;
SELECT id, l[1] AS e FROM free;
SELECT id, "a" IN l AS e FROM free;
SELECT id, x & 1 AS odd FROM free;
SELECT id, 7 / 2 AS a, 7 / 2.0 AS b, 7 % 4 AS c, 2 + 3 * 4 AS d, 10 - 4 - 3 AS e FROM free WHERE id = 1;
SELECT id, 1 / 0 AS bad FROM free WHERE id = 1;
