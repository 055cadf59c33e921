-- all send error, send nil
CREATE STREAM e (id bigint, i bigint, x float, s string, b boolean, l array(bigint), t array(string), o struct(k bigint, n string)) WITH (DATASOURCE="e");
+ e {"id": 1, "i": 7, "x": 2.5, "s": "Hello", "b": true, "l": [3, 1, 2, 3], "t": ["x", "yy"], "o": {"k": 5, "n": "five"}}
+ e {"id": 2, "i": -3, "x": -0.5, "s": " äöü ", "b": false, "l": [], "t": ["b", "a", "b"], "o": {}}
+ e {"id": 3, "i": 0, "x": 0, "s": "", "b": null, "l": [null, 4], "t": [], "o": {"k": null}}
+ e {"id": 4, "i": null, "x": null, "s": null, "l": null, "t": null, "o": null}

SELECT id, array_max(l) AS a, array_max(t) AS b FROM e;
SELECT id, array_min(l) AS a, array_min(t) AS b FROM e;
SELECT id, array_cardinality(l) AS a, array_cardinality(t) AS b FROM e;
SELECT id, array_distinct(l) AS a, array_distinct(t) AS b FROM e;
SELECT id, array_sort(l) AS a, array_sort(t) AS b FROM e;
SELECT id, cardinality(l) AS a, cardinality(t) AS b FROM e;
SELECT id, cardinality(array_shuffle(l)) AS a FROM e;
SELECT id, array_create(i, x, s) AS a FROM e;
SELECT id, array_position(l, 3) AS a, array_last_position(l, 3) AS b, array_contains(l, 4) AS c, array_contains(t, "b") AS d FROM e;
SELECT id, array_contains_any(l, array_create(1, 4)) AS a FROM e;
SELECT id, array_contains_any(l, s) AS a FROM e;
SELECT id, element_at(l, 0) AS a FROM e;
SELECT id, element_at(o, "k") AS a FROM e;
SELECT id, element_at(l, -1) AS a FROM e;
SELECT id, element_at(s, 1) AS a FROM e;
SELECT id, array_remove(l, 3) AS a FROM e;
SELECT id, array_intersect(l, array_create(3, 4, 3)) AS a, array_union(l, array_create(3, 9)) AS b, array_except(l, array_create(3)) AS c FROM e;
SELECT id, array_flatten(array_create(l, i)) AS a FROM e;
SELECT id, array_map("upper", t) AS a, array_map("abs", l) AS b FROM e;
SELECT id, array_map("nothing", t) AS a FROM e;
SELECT id, array_join(t, "-") AS a, array_join(l, ",", "none") AS b FROM e;
SELECT id, array_concat(l, t) AS a FROM e;
SELECT id, array_concat(l, i) AS a FROM e;
SELECT id, repeat(s, 2) AS a FROM e;
SELECT id, repeat(s, i) AS a FROM e;
SELECT id, sequence(1, 4) AS a, sequence(4, 1) AS b, sequence(1, 9, 4) AS c, sequence(1, 4, -1) AS d FROM e WHERE id = 1;
SELECT id, sequence(1, 4, i) AS a FROM e;
SELECT id, repeat(s, 2000000) AS a FROM e WHERE id = 1;
SELECT id, kvpair_array_to_obj(obj_to_kvpair_array(o)) AS a, obj_to_kvpair_array(o) AS b FROM e;
SELECT id, kvpair_array_to_obj(l) AS a FROM e;
SELECT id, keys(o) AS a, values(o) AS b, items(o) AS c, object_size(o) AS d FROM e;
SELECT id, object(t, l) AS a FROM e;
SELECT id, object(array_create("a", "b"), array_create(1, 2)) AS a FROM e WHERE id = 1;
SELECT id, zip(items(o)) AS a FROM e;
SELECT id, zip(l) AS a FROM e;
SELECT id, object_concat(o, object_construct("z", i)) AS a FROM e;
SELECT id, object_concat(o, i) AS a FROM e;
SELECT id, object_construct("a", i, "b", s) AS a, object_construct() AS b FROM e;
SELECT id, object_construct(s, i) AS a FROM e;
SELECT id, object_construct("a") AS a FROM e;
SELECT id, erase(o, "k") AS a, erase(o, t) AS b FROM e;
SELECT id, object_pick(o, "k") AS a, object_pick(o, "zz") AS b FROM e;
SELECT id, object_pick(object_construct("p", o), "p.k", "p.n") AS a FROM e;
SELECT id, array_max(s) AS a FROM e;
SELECT id, keys(l) AS a FROM e;
