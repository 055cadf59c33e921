CREATE STREAM demo (id bigint, temperature float, name string) WITH (DATASOURCE="demo");
CREATE STREAM other (id bigint, humidity float) WITH (DATASOURCE="other");
CREATE STREAM free () WITH (DATASOURCE="free");
CREATE TABLE site (id bigint, low float) WITH (DATASOURCE="site", TYPE="sql", KIND="lookup");

SELECT temprature, nam FROM demo;
SELECT id FROM dmo;
SELECT demo.temperatur FROM demo;
SELECT id FROM demo INNER JOIN other ON demo.id = other.id GROUP BY TUMBLINGWINDOW(ss, 1);
SELECT cuont(*) FROM demo GROUP BY TUMBLINGWINDOW(ss, 1);
SELECT count(*) AS c FROM demo GROUP BY name;
SELECT count(*) AS c FROM demo GROUP BY count(*), TUMBLINGWINDOW(ss, 1);
SELECT sum(count(*)) AS c FROM demo GROUP BY TUMBLINGWINDOW(ss, 1);
SELECT count(*) AS c FROM demo GROUP BY TUMBLINGWINDOW(ss, 1) HAVING temperature > 1;
SELECT id FROM demo HAVING id > 1;
SELECT id, name AS id FROM demo;
SELECT id AS x, name AS x FROM demo;
SELECT b + 1 AS a, a + 1 AS b FROM free;
SELECT * AS x FROM demo;
SELECT temperature FROM demo INNER JOIN site ON demo.temperature > site.low;
SELECT temperature FROM demo CROSS JOIN site;
SELECT temperature FROM demo INNER JOIN site ON demo.id = site.id AND site.id = 5;
SELECT temperature FROM demo INNER JOIN site ON demo.id = site.ident;
SELECT demo.id FROM demo INNER JOIN other ON demo.id = other.id;
SELECT low FROM site;
SELECT unnest(id) AS a, unnest(name) AS b FROM demo;
SELECT abs(unnest(id)) AS a FROM demo;
SELECT id FROM demo WHERE unnest(id) = 1;
SELECT id FROM demo WHERE row_number() > 1;
SELECT lag(id) OVER () AS p FROM demo;
SELECT count(id) OVER (PARTITION BY name) AS p FROM demo;
SELECT id FROM demo GROUP BY TUMBLINGWINDOW(ss, 10) OVER (WHEN id > 1);
SELECT x[3:1] AS y FROM free;
SELECT DISTINCT id FROM demo;
SELECT demo.id, other.id AS o FROM demo AS x INNER JOIN demo AS x ON x.id = x.id GROUP BY TUMBLINGWINDOW(ss, 1);
-- event time
SELECT id FROM demo;
-- event time
SELECT count(*) AS c FROM free GROUP BY COUNTWINDOW(2);
