/** A listing as people see it, in chromium: on a phone and on a screen, light and dark, without scripts. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import * as fs from "node:fs";
import process from "node:process";
import { Browser } from "../support/browser.ts";
import { test } from "../support/harness.ts";
import { MIB, missing, type Server, serving, type Site } from "../support/site.ts";

const MODIFIED = new Date("2021-03-04T05:06:07Z");

function addTree(site: Site): void {
  const sizes: Record<string, number> = {
    "annual report 2020 – final version, with all of the appendices (corrected).pdf": 3 * MIB,
    "backup-2021-03-04.tar.zst": 20 * MIB,
    "notes.txt": 1536,
    "a_name_without_any_place_to_break_it_that_is_longer_than_a_phone_is_wide.bin": 12,
    "photo10.jpg": 4567,
    "photo2.jpg": 34567,
    "holiday/x": 0,
    "music & more/x": 0,
  };
  for (const [name, size] of Object.entries(sizes)) {
    site.add(`files/2021/${name}`, "");
    fs.truncateSync(site.path(`files/2021/${name}`), size);
  }
  for (const name of fs.readdirSync(site.path("files/2021"))) {
    fs.utimesSync(site.path(`files/2021/${name}`), MODIFIED, MODIFIED);
  }
}

/** Where screenshots for the documentation go, if they are wanted. */
const PICTURES = process.env.SCREENSHOTS;

function browsing(
  name: string,
  body: (browser: Browser, server: Server, site: Site) => Promise<void>,
): void {
  test(name, () =>
    serving(async (server, site) => {
      const browser = await Browser.start();
      try {
        await body(browser, server, site);
      } finally {
        await browser.close();
      }
    }, { prepare: addTree }), { skip: missing("chromium") });
}

const SCREENS = [
  { name: "phone-light", width: 390, height: 700, scheme: "light" },
  { name: "phone-dark", width: 390, height: 700, scheme: "dark" },
  { name: "desktop-light", width: 1280, height: 560, scheme: "light" },
  { name: "desktop-dark", width: 1280, height: 560, scheme: "dark" },
] as const;

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** The boxes of what is visible in each row: name, size and time. */
const BOXES = `[...document.querySelectorAll("tbody tr")].map((row) =>
  [...row.querySelectorAll("td")].map((cell) => [cell, cell.getBoundingClientRect()])
    .filter(([cell, { width, height }]) => cell.textContent.trim() && width && height)
    .map(([, { left, right, top, bottom }]) => ({ left, right, top, bottom })))`;

browsing("chromium shows a listing on a phone and on a screen, light and dark", async (browser, { port }) => {
  for (const { name, ...screen } of SCREENS) {
    await browser.show({ ...screen, zone: "UTC" });
    await browser.open(`http://127.0.0.1:${port}/files/2021/`);
    const { scroll, color, background, crumbs } = await browser.value<
      { scroll: number; color: string; background: string; crumbs: string[] }
    >(
      `({
        scroll: document.documentElement.scrollWidth,
        color: getComputedStyle(document.body).color,
        background: getComputedStyle(document.documentElement).colorScheme,
        crumbs: [...document.querySelectorAll("nav[aria-label=Breadcrumb] a")].map(({ pathname }) => pathname),
      })`,
    );
    assert(scroll <= screen.width, `${name}: ${scroll} pixels wide`);
    assertEquals(background, "light dark");
    assertEquals(color, screen.scheme === "dark" ? "rgb(255, 255, 255)" : "rgb(0, 0, 0)", name);
    assertEquals(crumbs, ["/", "/files/", "/files/2021/"]);
    const rows = await browser.value<Box[][]>(BOXES);
    assertEquals(rows.length, 9);
    for (const cells of rows) {
      for (const { left, right } of cells) assert(left >= 0 && right <= screen.width, `${name}: ${right}`);
    }
    // One column: size and time stand below the name, in one line. On a screen all stand beside each other.
    const [filename, size, time] = rows.at(-1)!.slice(-3);
    if (screen.width === 390) assert(size.top >= filename.bottom - 1 && time.top < size.bottom, name);
    else assert(size.left >= filename.right - 1 && time.left >= size.right - 1, name);
    const picture = await browser.picture();
    assert(picture.length > 5000);
    if (PICTURES) fs.writeFileSync(join(PICTURES, `listing-${name}.png`), picture);
  }
});

browsing(
  "chromium shows a listing's times as local ones, and as UTC without scripts",
  async (browser, { port }) => {
    const url = `http://127.0.0.1:${port}/files/2021/`;
    const seen = `({
    time: document.querySelector("tbody tr:last-child time").textContent,
    head: document.querySelector("th.time").textContent,
  })`;
    await browser.show({ width: 1280, height: 800, zone: "Asia/Kolkata" });
    await browser.open(url);
    assertEquals(await browser.value(seen), { time: "2021-03-04 10:36", head: "Modified" });
    await browser.show({ width: 1280, height: 800, scripts: false });
    await browser.open(url);
    assertEquals(await browser.value(seen), { time: "2021-03-04 05:06", head: "Modified (UTC)" });
  },
);

browsing("chromium sorts a listing by its links, without scripts", async (browser, { port }) => {
  await browser.show({ width: 390, height: 700, scripts: false });
  await browser.open(`http://127.0.0.1:${port}/files/2021/`);
  const sort = async (column: number) => {
    const href = await browser.value<string>(`document.querySelectorAll("thead a")[${column}].href`);
    const box = await browser.value<Box>(
      `(({ left, right, top, bottom }) => ({ left, right, top, bottom }))(
        document.querySelectorAll("thead a")[${column}].getBoundingClientRect())`,
    );
    assert(box.right > box.left && box.right <= 390, "the link can be reached");
    await browser.open(href);
    return await browser.value<string[]>(
      `[...document.querySelectorAll("tbody tr:nth-child(n+4) td:nth-child(2) a")].map((link) => link.textContent)`,
    );
  };
  assertEquals((await sort(1))[0], "backup-2021-03-04.tar.zst");
  assertEquals((await sort(1)).at(-1), "backup-2021-03-04.tar.zst");
  assertEquals((await sort(0)).slice(-2), ["photo2.jpg", "photo10.jpg"]);
});
