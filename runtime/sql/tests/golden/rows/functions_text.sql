-- all send error, send nil
CREATE STREAM e (id bigint, i bigint, x float, s string, b boolean, l array(bigint), t array(string), o struct(k bigint, n string)) WITH (DATASOURCE="e");
+ e {"id": 1, "i": 7, "x": 2.5, "s": "Hello", "b": true, "l": [3, 1, 2, 3], "t": ["x", "yy"], "o": {"k": 5, "n": "five"}}
+ e {"id": 2, "i": -3, "x": -0.5, "s": " äöü ", "b": false, "l": [], "t": ["b", "a", "b"], "o": {}}
+ e {"id": 3, "i": 0, "x": 0, "s": "", "b": null, "l": [null, 4], "t": [], "o": {"k": null}}
+ e {"id": 4, "i": null, "x": null, "s": null, "l": null, "t": null, "o": null}

SELECT id, length(s) AS r, length(i) AS n FROM e;
SELECT id, numbytes(s) AS r, numbytes(i) AS n FROM e;
SELECT id, lower(s) AS r, lower(i) AS n FROM e;
SELECT id, upper(s) AS r, upper(i) AS n FROM e;
SELECT id, reverse(s) AS r, reverse(i) AS n FROM e;
SELECT id, trim(s) AS r, trim(i) AS n FROM e;
SELECT id, ltrim(s) AS r, ltrim(i) AS n FROM e;
SELECT id, rtrim(s) AS r, rtrim(i) AS n FROM e;
SELECT id, md5(s) AS r, md5(i) AS n FROM e;
SELECT id, sha1(s) AS r, sha1(i) AS n FROM e;
SELECT id, crc32(s) AS r, crc32(i) AS n FROM e;
SELECT id, sha256(s) AS r FROM e;
SELECT id, sha384(s) AS r FROM e WHERE id = 1;
SELECT id, sha512(s) AS r FROM e WHERE id = 1;
SELECT id, concat(s, "-", i, x, b, l, o) AS r FROM e;
SELECT id, lpad(s, 3) AS l, rpad(s, 2) AS r FROM e;
SELECT id, lpad(s, i) AS l FROM e;
SELECT id, startswith(s, "He") AS a, endswith(s, "lo") AS b FROM e;
SELECT id, indexof(s, "l") AS a, indexof(s, "") AS b FROM e;
SELECT id, substring(s, 1) AS a, substring(s, 1, 3) AS b FROM e;
SELECT id, substring(s, 3, 1) AS a FROM e;
SELECT id, substring(s, i) AS a FROM e;
SELECT id, split_value(s, "l", 0) AS a FROM e;
SELECT id, split_value(s, "l", 2) AS a FROM e;
SELECT id, split_value("a/b/c", "/", id - 3) AS a FROM e;
SELECT id, regexp_matches(s, "^H.*o$") AS m, regexp_replace(s, "(l+)", "<$1>") AS r, regexp_substr(s, "[a-z]+") AS f FROM e;
SELECT id, regexp_matches(s, "(") AS m FROM e;
SELECT id, format(x * 1234.5, 2) AS a, format(i * 1000000, 0, "en_US") AS b, format(x * 1234.5, 1, "de_DE") AS c FROM e;
SELECT id, format(x, -1) AS a FROM e;
SELECT id, format(x, 2, "nowhere") AS a FROM e;
SELECT id, length(l) AS a, length(o) AS b FROM e;
SELECT id, chr(s) AS a FROM e;
SELECT id, chr(i) AS a, chr(x) AS b FROM e;
SELECT id, hex2dec("0xfF") AS a, hex2dec(s) AS b FROM e;
SELECT id, dec2hex(i) AS a FROM e;
SELECT id, encode(s, "base64") AS a, decode(encode(s, "base64"), "base64") AS b FROM e;
SELECT id, decode(s, "base64") AS a FROM e;
SELECT id, encode(i, "base64") AS a FROM e;
SELECT id, cast(decompress(compress(s, "gzip"), "gzip"), "string") AS a FROM e;
SELECT id, cast(decompress(compress(s, "zstd"), "zstd"), "string") AS a, cast(decompress(compress(s, "zlib"), "zlib"), "string") AS b, cast(decompress(compress(s, "flate"), "flate"), "string") AS c FROM e WHERE id = 1;
SELECT id, decompress(s, "gzip") AS a FROM e;
SELECT id, compress(s, "rar") AS a FROM e;
SELECT id, cast(i, "string") AS a, cast(x, "bigint") AS b, cast(b, "bigint") AS c, cast(i, "boolean") AS d, cast(i, "float") AS e FROM e;
SELECT id, cast(s, "bigint") AS a FROM e;
SELECT id, cast("0x1f", "bigint") AS a, cast("1_000", "bigint") AS b, cast("1e3", "float") AS c, cast("T", "boolean") AS d FROM e WHERE id = 1;
SELECT id, cast(s, "boolean") AS a FROM e;
SELECT id, cast(l, "string") AS a, cast(o, "string") AS b FROM e;
SELECT id, cast(l, "bigint") AS a FROM e;
SELECT id, cast(s, "bytea") AS a FROM e;
SELECT id, cast(i, "datetime") AS a, cast("2024-02-29 12:30:00", "datetime") AS b FROM e;
SELECT id, cast(i, "number") AS a FROM e;
SELECT id, to_json(o) AS a, to_json(l) AS b, to_json(s) AS c FROM e;
SELECT id, parse_json("{\"a\": [1, 2.5, null]}") AS a, parse_json("null") AS b FROM e WHERE id = 1;
SELECT id, parse_json(s) AS a FROM e;
SELECT id, json_path_query(o, "$.k") AS a FROM e;
SELECT id, json_path_query_first(l, "$[*]") AS a, json_path_exists(o, "$.k") AS b FROM e;
SELECT id, json_path_query(o, "$[") AS a FROM e;
SELECT id, json_path_query(parse_json("[{\"a\": 1}, {\"a\": 5}]"), "$[? @.a > 2].a") AS a FROM e WHERE id = 1;
