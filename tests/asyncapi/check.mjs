// Judges the AsyncAPI document with the parser of the AsyncAPI initiative and, where folders are given, the golden
// files with the JSON Schemas: node check.mjs <asyncapi.json> [<folder of schemas> <folder of golden files>]
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const WARNING = 1; // severities: 0 error, 1 warning, 2 information, 3 hint
const PREFIX = "headrace-";

async function judgeDocument(path) {
  const text = readFileSync(path, "utf8");
  const { document, diagnostics } = await new Parser().parse(text);
  const bad = diagnostics.filter((each) => each.severity <= WARNING);
  if (document !== undefined && bad.length === 0) return judgeExamples(path, JSON.parse(text).components);
  if (bad.length === 0) return [`${path}: is not an AsyncAPI document`];
  return bad.map((each) => `${path}: ${each.path.join(".")}: ${each.message} (${each.code})`);
}

// The parser looks at no example of a version 3 document.
function judgeExamples(path, components) {
  const ajv = addFormats(new Ajv({ allErrors: true, strict: false })).addSchema({ $id: "document", components });
  const found = [];
  for (const [name, message] of Object.entries(components.messages)) {
    for (const example of message.examples ?? []) {
      for (const part of ["payload", "headers"].filter((each) => message[each] && each in example)) {
        const valid = ajv.getSchema(`document#/components/messages/${name}/${part}`);
        if (valid(example[part])) continue;
        found.push(...valid.errors.map((each) => `${path}: ${name}.${part}${each.instancePath}: ${each.message}`));
      }
    }
  }
  return found;
}

function judgeGolden(name, golden, schemas, ajv) {
  const schema = JSON.parse(readFileSync(join(schemas, name.replace(/json$/, "schema.json")), "utf8"));
  const written = JSON.parse(readFileSync(join(golden, name), "utf8"));
  const valid = ajv.compile(schema);
  if (valid(written.headers ? letter(written.headers, schema) : written.data)) return [];
  return valid.errors.map((each) => `${join(golden, name)}: ${each.instancePath || "/"} ${each.message}`);
}

// The fields of a dead letter are headers, all of them texts.
function letter(headers, schema) {
  const own = headers.filter(([name]) => name.startsWith(PREFIX)).map(([name, text]) => [name.slice(PREFIX.length), text]);
  const typed = ([name, text]) => [name, schema.properties[name]?.type === "integer" ? Number(text) : text];
  return Object.fromEntries(own.map(typed));
}

const [document, schemas, golden] = process.argv.slice(2);
const found = await judgeDocument(document);
if (golden !== undefined) {
  const ajv = addFormats(new Ajv({ allErrors: true }));
  for (const name of readdirSync(golden)) found.push(...judgeGolden(name, golden, schemas, ajv));
}
for (const each of found) console.error(each);
process.exitCode = found.length ? 1 : 0;
