// Opens pages in a real browser and tells, as one JSON object, what checkers and a keyboard find: node look.mjs BROWSER PAGE...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { FileSystemConfigLoader, HtmlValidate, cjsResolver } from "html-validate";

const [browser, ...files] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const chrome = await chromium.launch({ executablePath: browser, args: ["--no-sandbox"] });
const validator = new HtmlValidate(new FileSystemConfigLoader([cjsResolver()], { root: true, extends: ["html-validate:recommended"] }));
const told = { pages: [], markup: [], keyboard: [], script: [], print: [] };

const open = async (file, options = {}) => {
  const page = await chrome.newPage({ viewport: { width: 1360, height: 900 }, ...options });
  const heard = [];
  page.on("console", (message) => heard.push(message.text()));
  page.on("pageerror", (error) => heard.push(String(error)));
  page.on("dialog", (dialog) => { heard.push("dialog " + dialog.message()); dialog.dismiss(); });
  page.on("request", (request) => { if (request.url().split("#")[0] !== new URL("file://" + file).href) heard.push("request " + request.url()); });
  await page.goto("file://" + file);
  return { page, heard };
};

for (const file of files) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1360, 390]) {
      const { page, heard } = await open(file, { colorScheme, viewport: { width, height: 900 } });
      await page.evaluate(() => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
      await page.evaluate(axe);
      const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const violations = found.violations.map((one) => one.id + ": " + one.nodes[0].html.slice(0, 200));
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      told.pages.push({ file, colorScheme, width, violations, heard, wide });
      await page.close();
    }
  }
  const result = await validator.validateString(readFileSync(file, "utf8"), file);
  told.markup.push({ file, problems: result.results.flatMap((one) => one.messages.map((each) => `${each.ruleId} ${each.line}: ${each.message}`)) });

  const { page } = await open(file);
  await page.keyboard.press("Tab");
  const skip = await page.evaluate(() => document.activeElement.className);
  await page.keyboard.press("Enter");
  const reached = await page.evaluate(() => location.hash);
  const closed = page.locator("main details:not([open]) > summary").first();
  await closed.focus();
  const was = await closed.evaluate((summary) => summary.parentElement.open);
  await page.keyboard.press("Enter");
  const opened = await page.evaluate(() => document.activeElement.parentElement.open);
  const unreachable = await page.evaluate(() => [...document.querySelectorAll("main .scroll, main pre")].filter((part) => part.scrollWidth > part.clientWidth + 1 && part.tabIndex < 0).map((part) => part.outerHTML.slice(0, 120)));
  await page.locator("#theme").focus();
  await page.keyboard.press("Space");
  const theme = await page.evaluate(() => document.documentElement.dataset.theme);
  told.keyboard.push({ file, skip, reached, was, opened, theme, unreachable });
  await page.close();

  const without = await open(file, { javaScriptEnabled: false });
  const sections = await without.page.locator("main > section").count();
  const tool = await without.page.locator(".copy").first().isVisible();
  const sources = await without.page.locator("pre.src").first().isVisible();
  told.script.push({ file, sections, tool, sources });
  await without.page.emulateMedia({ media: "print" });
  const rail = await without.page.locator(".rail").isVisible();
  const inside = await without.page.locator("main details:not([open]) > :not(summary)").first().isVisible();
  told.print.push({ file, rail, inside });
  await without.page.close();
}
await chrome.close();
console.log(JSON.stringify(told));
