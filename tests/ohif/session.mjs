// Opens each study of a list in OHIF and each of its series in turn; writes what is seen as JSON and as pictures.
//   node session.mjs URL STUDIES.json OUT
import fs from 'node:fs';
import { chromium } from 'playwright-core';

const [url, list, out] = process.argv.slice(2);
const studies = JSON.parse(fs.readFileSync(list, 'utf8'));
const flags = ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
  '--ignore-gpu-blocklist'];
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: flags });
const seen = [];
for (const study of studies) {
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  const errors = [];
  page.on('pageerror', error => errors.push(String(error)));
  await page.goto(`${url}/viewer?StudyInstanceUIDs=${study.uid}`, { waitUntil: 'domcontentloaded' });
  await page.waitForTimeout(8000);
  const skip = page.getByText('Skip all');
  if (await skip.count()) await skip.first().click();
  const entry = { name: study.name, wanted: study.series.length, errors, list: await page.evaluate(() => document.body.innerText), opened: {} };
  for (const wanted of study.series) {
    const row = page.getByText(wanted, { exact: true }).first();
    if (!(await row.count())) continue;
    await row.dblclick();
    const drawn = /measurement report/.test(wanted) ? 'svg.svg-layer polyline, svg.svg-layer path' : 'iframe, object, embed';
    if (/report/.test(wanted) && !/CAD/.test(wanted)) {
      // What does not come in time is missing in what is seen, and the test says so.
      await page.waitForSelector(drawn, { state: 'attached', timeout: 30000 }).catch(() => undefined);
    }
    await page.waitForTimeout(5000);
    const file = `${study.name}-${wanted.replace(/[^a-z0-9]+/gi, '_')}.png`;
    await page.screenshot({ path: `${out}/${file}` });
    entry.opened[wanted] = {
      text: await page.evaluate(() => document.body.innerText),
      paths: await page.evaluate(() => document.querySelectorAll('svg.svg-layer polyline, svg.svg-layer path').length),
      frames: await page.evaluate(() => [...document.querySelectorAll('iframe, object, embed')].length),
      picture: file,
    };
  }
  seen.push(entry);
  await page.close();
}
await browser.close();
fs.writeFileSync(`${out}/seen.json`, JSON.stringify(seen, null, 1));
