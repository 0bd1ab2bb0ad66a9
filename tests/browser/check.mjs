// Opens reports in headless Chromium, at four widths and colour schemes each, and fails on any
// accessibility violation that axe finds, any line on the console, any request, and any page
// wider than its screen. Sorts every table and opens every fold first.
//
//   npm install --no-save --prefix /tmp/browser axe-core puppeteer-core
//   NODE_PATH=/tmp/browser/node_modules node tests/browser/check.mjs report.html...
//
// CHROMIUM names the browser where it is not /usr/bin/chromium.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const screens = [[1200, "light"], [1200, "dark"], [390, "light"], [360, "dark"]];

const tooWide = (page) =>
  page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth));

async function check(browser, file, width, scheme) {
  const page = await browser.newPage();
  const found = [], asked = [];
  page.on("console", (message) => found.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => found.push(`error: ${error.message}`));
  page.on("request", (request) => asked.push(request.url()));
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(`file://${path.resolve(file)}`);
  if (await tooWide(page)) found.push("wider than the screen");
  await page.evaluate(() => {
    document.querySelectorAll("details").forEach((each) => { each.open = true; });
    document.querySelectorAll("th button").forEach((each) => each.click());
  });
  if (await tooWide(page)) found.push("wider than the screen once all is opened");
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run());
  for (const { id, help, nodes } of violations) {
    found.push(`axe ${id}: ${help} (${nodes.length} places, such as ${nodes[0].html})`);
  }
  const other = asked.filter((url) => !url.startsWith("data:")).slice(1);
  if (other.length) found.push(`requests: ${other.join(" ")}`);
  await page.close();
  console.log(`${file} ${width} ${scheme}: ${passes.length} rules pass, ${found.length} findings`);
  found.forEach((line) => console.log(`  ${line}`));
  return found.length;
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
let findings = 0;
for (const file of process.argv.slice(2)) {
  for (const [width, scheme] of screens) findings += await check(browser, file, width, scheme);
}
await browser.close();
process.exit(findings ? 1 : 0);
