CREATE STREAM s () WITH (DATASOURCE="s");
CREATE STREAM d (id bigint, k string) WITH (DATASOURCE="d");
CREATE TABLE t () WITH (DATASOURCE="t", TYPE="memory", KIND="lookup", KEY="id");

+ s 1000 {"id": 1, "k": "limit:a", "x": 3}
+ s 2000 {"id": 2, "k": "limit:b", "x": 3}
+ s 3000 {"id": 3, "k": "limit:none", "x": 3}
+ s 4000 {"id": 4, "k": 5, "x": 3}
+ s 5000 {"id": 5, "x": 3}
+ d 6000 {"id": 1, "k": "limit:a"}
+ t {"id": 1, "k": "limit:b"}

SELECT id, get_keyed_state(k, "bigint", 0) AS l FROM s;
CREATE STREAM keyed_state () WITH (DATASOURCE="0");
SELECT id, get_keyed_state(k, "bigint", 0) AS l FROM s;
CREATE TABLE keyed_state (key string, val string) WITH (DATASOURCE="0", TYPE="redis", KIND="lookup");
SELECT id, get_keyed_state(k, "bigint", 0) AS l FROM s;
CREATE TABLE keyed_state () WITH (DATASOURCE="0", TYPE="redis", KIND="lookup");
+ keyed_state {"key": "limit:a", "value": "5"}
+ keyed_state {"key": "limit:b", "value": 2}
+ keyed_state {"key": "limit:b", "value": 1}
+ keyed_state {"key": "text", "value": "warm"}
+ keyed_state {"key": "null", "value": null}
+ keyed_state {"key": "time", "value": "2026-01-02T03:04:05Z"}
-- send error
SELECT id, get_keyed_state(k, "bigint", 0) AS l FROM s;
-- send nil
SELECT id, get_keyed_state("limit:a", "bigint", 0) / 2 AS half, get_keyed_state("limit:a", "float", 0) / 2 AS f FROM s WHERE id = 1;
SELECT *, get_keyed_state("text", "string", "?") AS a, get_keyed_state("null", "string", "?") AS b, get_keyed_state("limit:a", "boolean", false) AS c FROM s WHERE id = 1;
SELECT get_keyed_state("time", "datetime", 0) AS a FROM s WHERE id = 1;
-- send error
SELECT get_keyed_state("text", "bigint", 0) AS a FROM s WHERE id = 1;
SELECT id FROM s WHERE isnull(k) = false AND id < 4 AND x > get_keyed_state(k, "float", 100);
SELECT id, get_keyed_state(k, "bigint", 7) AS l FROM s WHERE id < 4 AND l > 2;
SELECT id, get_keyed_state(concat(substring(k, 0, 6), "b"), "bigint", 7) AS l, get_keyed_state(concat("limit:", cast(get_keyed_state("x", "string", "a"), "string")), "bigint", 9) AS m FROM s WHERE id = 1;
SELECT get_keyed_state(k, "bigint", 7) AS l, count(*) AS c, sum(get_keyed_state(k, "bigint", 7)) AS t FROM s WHERE id < 4 GROUP BY get_keyed_state(k, "bigint", 7), COUNTWINDOW(3) HAVING sum(get_keyed_state(k, "bigint", 7)) > 2 ORDER BY l DESC;
SELECT s.id, get_keyed_state(t.k, "bigint", 7) AS l FROM s INNER JOIN t ON s.id = t.id;
SELECT d.id, get_keyed_state(k, "bigint", 7) AS l FROM d;
SELECT id, get_keyed_state(k, "int", 7) AS l FROM s;
SELECT get_keyed_state(max(k), "bigint", 7) AS l FROM s GROUP BY COUNTWINDOW(3);
SELECT id, lag(get_keyed_state(k, "bigint", 7)) AS l FROM s;
SELECT s.id, lag(t.k) AS l FROM s LEFT JOIN t ON s.id = t.id;
SELECT count(*) AS c FROM s LEFT JOIN t ON s.id = t.id GROUP BY STATEWINDOW(t.k = "limit:b", s.id = 3);
SELECT count(*) AS c FROM s GROUP BY COUNTWINDOW(2) FILTER (WHERE get_keyed_state(k, "bigint", 7) > 2);
SELECT keyed_state.value AS v FROM s WHERE id = 1;
