-- all send error, send nil
CREATE STREAM p () WITH (DATASOURCE="p");
+ p {"id": 1, "lat": 48.137, "lon": 11.575, "h": "u281z7j5"}
+ p {"id": 2, "lat": 91.0, "lon": 0, "h": "not a hash!"}
+ p {"id": 3, "lat": null, "lon": null, "h": null}

SELECT id, geohashEncode(lat, lon) AS a FROM p;
SELECT id, geohashEncodeInt(lat, lon) AS a FROM p;
SELECT id, geohashDecode(h) AS a FROM p;
SELECT id, geohashDecodeInt(geohashEncodeInt(lat, lon)) AS a FROM p;
SELECT id, geohashBoundingBox(h) AS a FROM p;
SELECT id, geohashNeighbor(h, "North") AS a FROM p;
SELECT id, geohashNeighbor(h, "Up") AS a FROM p;
SELECT id, geohashNeighbors(h) AS a FROM p;
SELECT id, geohashNeighborInt(geohashEncodeInt(lat, lon), "East") AS a FROM p;
SELECT id, geohashNeighborsInt(geohashEncodeInt(lat, lon)) AS a FROM p;
SELECT id, geohashBoundingBoxInt(geohashEncodeInt(lat, lon)) AS a FROM p;
SELECT id, geohashencode(lat, lon) AS a FROM p;
