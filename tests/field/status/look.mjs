// Opens the status page in a real Chromium, at 360 and 1280 pixels, light and dark, and says what is wrong with it:
// violations of axe's rules, a horizontal scroll, errors of the console (what the page's policy kept from loading among them).
// node look.mjs CHROMIUM URL [PICTURE]: one line of JSON.
import { createRequire } from "node:module";

// The packages are in the working directory.
const require = createRequire(`${process.cwd()}/`);
const { chromium } = require("playwright-core");
const AxeBuilder = require("@axe-core/playwright").default;

const [executablePath, url, picture] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const wrong = [];
const verdicts = new Set();
let rules = 0;
for (const width of [360, 1280]) {
  for (const colorScheme of ["light", "dark"]) {
    const where = `${width} px, ${colorScheme}`;
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme });
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && wrong.push(`${where}: ${message.text()}`));
    page.on("pageerror", (error) => wrong.push(`${where}: ${error}`));
    const answer = await page.goto(url);
    if (answer.status() !== 200) wrong.push(`${where}: ${answer.status()}`);
    verdicts.add(await page.textContent("h2"));
    const { scroll, client } = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return { scroll: scrollWidth, client: clientWidth };
    });
    if (scroll > client) wrong.push(`${where}: ${scroll} px of content scroll in ${client} px`);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    if ((background === "rgb(255, 255, 255)") !== (colorScheme === "light")) wrong.push(`${where}: on ${background}`);
    const found = await new AxeBuilder({ page }).analyze();
    rules += found.passes.length;
    // What axe could not decide is as bad: the contrast of every text can be computed here.
    for (const { id, help, nodes } of [...found.violations, ...found.incomplete]) {
      wrong.push(`${where}: ${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
    }
    if (picture && width === 1280 && colorScheme === "light") {
      // Without the configuration below, so that it stays small.
      await page.screenshot({ path: picture, fullPage: true, clip: { x: 0, y: 0, width, height: 1060 } });
    }
    await context.close();
  }
}
await browser.close();
console.log(JSON.stringify({ verdicts: [...verdicts], rules, wrong }));
