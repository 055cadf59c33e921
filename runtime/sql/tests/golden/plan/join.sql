CREATE STREAM a (id bigint, ts bigint, k string, x float) WITH (DATASOURCE="a", TIMESTAMP="ts");
CREATE STREAM b (id bigint, ts bigint, k string, y float) WITH (DATASOURCE="b", TIMESTAMP="ts");
CREATE STREAM free () WITH (DATASOURCE="free");
CREATE TABLE scan (id bigint, name string) WITH (DATASOURCE="scan", TYPE="file");
CREATE TABLE t () WITH (DATASOURCE="t", TYPE="sql", KIND="lookup");
CREATE TABLE d (id bigint, low float, high float) WITH (DATASOURCE="d", TYPE="sql", KIND="lookup");

SELECT * FROM free INNER JOIN t ON free.id = t.id;
SELECT free.id, t.name FROM free INNER JOIN t ON free.id = t.id WHERE free.x > 1 AND t.y > 2;
SELECT free.id, name FROM free LEFT JOIN t ON t.id = free.id AND t.kind = "x" AND t.low < free.x;
SELECT a.x, d.low FROM a INNER JOIN d ON a.id = d.id WHERE x > low AND x < high AND a.k = "x";
SELECT a.x, d.low, t.z FROM a LEFT JOIN d ON a.id = d.id LEFT JOIN t ON t.low = d.low WHERE d.high > 1 AND t.z > 1;
SELECT q.x, w.low FROM a AS q INNER JOIN d AS w ON q.id = w.id;
SELECT a.id AS i, b.y FROM a INNER JOIN b ON a.k = b.k WHERE x > 1 AND y > 2 AND x > y GROUP BY TUMBLINGWINDOW(ss, 10);
SELECT a.id AS i, b.y FROM a LEFT JOIN b ON a.k = b.k WHERE x > 1 AND y > 2 GROUP BY TUMBLINGWINDOW(ss, 10);
-- event time
SELECT a.id AS i, b.y FROM a RIGHT JOIN b ON a.k = b.k WHERE x > 1 GROUP BY TUMBLINGWINDOW(ss, 10);
SELECT * FROM a FULL JOIN b ON a.k = b.k GROUP BY TUMBLINGWINDOW(ss, 10);
SELECT sum(a.x * b.y) AS t, a.k FROM a CROSS JOIN b GROUP BY a.k, COUNTWINDOW(10);
SELECT a.x, scan.name FROM a INNER JOIN scan ON a.id = scan.id WHERE x > 1;
SELECT x, y FROM free INNER JOIN a ON free.k = a.k GROUP BY TUMBLINGWINDOW(ss, 1);
SELECT count(*) AS c, t.site FROM free INNER JOIN t ON free.id = t.id GROUP BY t.site, TUMBLINGWINDOW(ss, 10);
