-- all send error, send nil
CREATE STREAM e (id bigint, i bigint, x float, s string, b boolean, l array(bigint), t array(string), o struct(k bigint, n string)) WITH (DATASOURCE="e");
+ e {"id": 1, "i": 7, "x": 2.5, "s": "Hello", "b": true, "l": [3, 1, 2, 3], "t": ["x", "yy"], "o": {"k": 5, "n": "five"}}
+ e {"id": 2, "i": -3, "x": -0.5, "s": " äöü ", "b": false, "l": [], "t": ["b", "a", "b"], "o": {}}
+ e {"id": 3, "i": 0, "x": 0, "s": "", "b": null, "l": [null, 4], "t": [], "o": {"k": null}}
+ e {"id": 4, "i": null, "x": null, "s": null, "l": null, "t": null, "o": null}

SELECT id, abs(x) AS r, abs(i) AS n FROM e;
SELECT id, ceiling(x) AS r, ceiling(i) AS n FROM e;
SELECT id, ceil(x) AS r, ceil(i) AS n FROM e;
SELECT id, floor(x) AS r, floor(i) AS n FROM e;
SELECT id, round(x) AS r, round(i) AS n FROM e;
SELECT id, sign(x) AS r, sign(i) AS n FROM e;
SELECT id, round(sqrt(x), 9) AS r, round(sqrt(i), 9) AS n FROM e;
SELECT id, round(exp(x), 9) AS r, round(exp(i), 9) AS n FROM e;
SELECT id, round(ln(x), 9) AS r, round(ln(i), 9) AS n FROM e;
SELECT id, round(log(x), 9) AS r, round(log(i), 9) AS n FROM e;
SELECT id, round(sin(x), 9) AS r, round(sin(i), 9) AS n FROM e;
SELECT id, round(cos(x), 9) AS r, round(cos(i), 9) AS n FROM e;
SELECT id, round(tan(x), 9) AS r, round(tan(i), 9) AS n FROM e;
SELECT id, round(cot(x), 9) AS r, round(cot(i), 9) AS n FROM e;
SELECT id, round(sinh(x), 9) AS r, round(sinh(i), 9) AS n FROM e;
SELECT id, round(cosh(x), 9) AS r, round(cosh(i), 9) AS n FROM e;
SELECT id, round(tanh(x), 9) AS r, round(tanh(i), 9) AS n FROM e;
SELECT id, round(asin(x), 9) AS r, round(asin(i), 9) AS n FROM e;
SELECT id, round(acos(x), 9) AS r, round(acos(i), 9) AS n FROM e;
SELECT id, round(atan(x), 9) AS r, round(atan(i), 9) AS n FROM e;
SELECT id, round(radians(x), 9) AS r, round(radians(i), 9) AS n FROM e;
SELECT id, round(degrees(x), 9) AS r, round(degrees(i), 9) AS n FROM e;
SELECT id, round(x, 1) AS r, round(i * 12.345, -1) AS n FROM e;
SELECT id, round(atan2(x, 2), 9) AS r FROM e;
SELECT id, round(log(2, i + 4), 9) AS r FROM e;
SELECT id, power(i, 2) AS p, round(pow(2, x), 9) AS q FROM e;
SELECT id, mod(i, 3) AS m, mod(x, 2) AS n FROM e;
SELECT id, mod(i, 0) AS m FROM e;
SELECT id, bitand(i, 6) AS a, bitor(i, 8) AS o, bitxor(i, 1) AS x, bitnot(i) AS n FROM e;
SELECT id, bitand(x, 1) AS a FROM e;
SELECT id, round(pi(), 9) AS p FROM e WHERE id = 1;
SELECT id, rand() < 1 AS r FROM e WHERE id = 1;
SELECT id, conv(i, 10, 2) AS b, conv(s, 16, 10) AS h FROM e;
SELECT id, conv(i, 1, 2) AS b FROM e;
SELECT id, conv("-ff", 16, -10) AS a, conv("zz", 36, 10) AS z, conv("", 10, 16) AS n FROM e WHERE id = 1;
SELECT id, abs(s) AS r FROM e;
SELECT id, sqrt(b) AS r FROM e;
SELECT id, trunc(x * 1.27, 1) AS t, trunc(i, -1) AS n FROM e;
