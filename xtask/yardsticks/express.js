// Express answering GET /v1/stocks with bytes made beforehand: no key, no log, no JSON to make. Its first line says where.
"use strict";

const fs = require("node:fs");
const express = require("express");

const answer = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const body = Buffer.from(answer.body);

const app = express();
// Ours has no such header, and an ETag of its own where it has one.
app.disable("x-powered-by");
app.disable("etag");
app.get("/v1/stocks", (request, response) => {
  // Not `response.set`, which would add a charset to the content type.
  for (const [name, value] of answer.headers) {
    response.setHeader(name, value);
  }
  response.send(body);
});
const server = app.listen(0, "127.0.0.1", () => {
  console.log(`listening 127.0.0.1:${server.address().port}`);
});
