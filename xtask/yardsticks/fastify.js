// Fastify answering GET /v1/stocks with bytes made beforehand: no key, no log, no JSON to make. Its first line says where.
"use strict";

const fs = require("node:fs");
const fastify = require("fastify")({ logger: false });

const answer = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const body = Buffer.from(answer.body);
const headers = Object.fromEntries(answer.headers);

fastify.get("/v1/stocks", (request, reply) => {
  reply.headers(headers).send(body);
});
fastify.listen({ host: "127.0.0.1", port: 0 }).then((address) => {
  console.log(`listening ${address.replace("http://", "")}`);
});
