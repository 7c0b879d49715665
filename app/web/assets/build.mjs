// Bundles scripts, styles and fonts into ../static/build. The same input gives the same bytes: names are
// fixed and pages add the content hash of manifest.json to every address.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "static", "build");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

await build({
  absWorkingDir: here,
  entryPoints: {
    app: "src/app.ts",
    theme: "src/theme.ts",
    map: "src/map/main.ts",
    docs: "src/docs.ts",
    style: "css/style.css",
  },
  outdir: out,
  bundle: true,
  minify: true,
  sourcemap: process.argv.includes("--sourcemap"),
  target: ["es2022", "chrome109", "firefox115", "safari16.4"],
  format: "iife",
  legalComments: "linked",
  loader: { ".woff2": "file" },
  assetNames: "fonts/[name]",
  logLevel: "warning",
});

// Swagger UI ships bundled; it is copied as it is.
const swagger = join(here, "node_modules", "swagger-ui-dist");
for (const name of ["swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE"]) {
  cpSync(join(swagger, name), join(out, name.startsWith("swagger") ? name : `swagger-ui.${name}.txt`));
}

const manifest = {};
for (const name of readdirSync(out).sort()) {
  if (!/\.(js|css)$/.test(name)) continue;
  manifest[name] = createHash("sha256").update(readFileSync(join(out, name))).digest("hex").slice(0, 12);
}
writeFileSync(join(out, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
