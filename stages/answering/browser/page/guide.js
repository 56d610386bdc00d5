// The guidelines of the project: a part of Markdown, made into elements one by one, so that nothing in it is HTML.

import { element } from "./state.js";

const INLINE = /(`[^`]+`)|!\[([^\]]*)\]\(([^)\s]+)\)|\[([^\]]+)\]\(([^)\s]+)\)|\*\*([^*]+)\*\*|(?<![\w*])[*_]([^*_]+)[*_](?![\w*])/g;

/** The elements of a text; ``pictures`` maps the paths of images to their addresses. */
export function rendered(text, pictures) {
  const made = [];
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;
  const take = (is) => {
    const taken = [];
    while (at < lines.length && is(lines[at])) taken.push(lines[at++]);
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at];
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) {
      at += 1;
    } else if (/^\s*(```|~~~)/.test(line)) {
      at += 1;
      made.push(element("pre", "", take((each) => !/^\s*(```|~~~)/.test(each)).join("\n")));
      at += 1;
    } else if (heading) {
      made.push(withInline(`h${Math.min(heading[1].length + 1, 6)}`, heading[2], pictures));
      at += 1;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      made.push(element("hr"));
      at += 1;
    } else if (ITEM.test(line)) {
      made.push(listOf(take((each) => ITEM.test(each) || /^\s+\S/.test(each)), pictures));
    } else if (/^\s*\|.*\|\s*$/.test(line)) {
      made.push(tableOf(take((each) => /^\s*\|.*\|\s*$/.test(each)), pictures));
    } else if (/^\s*>/.test(line)) {
      const quote = element("blockquote");
      const quoted = take((each) => /^\s*>/.test(each)).map((each) => each.replace(/^\s*> ?/, ""));
      quote.append(...rendered(quoted.join("\n"), pictures));
      made.push(quote);
    } else {
      const paragraph = take((each) => each.trim() && !/^(#{1,6}\s|\s*(```|~~~)|\s*>)/.test(each) && !ITEM.test(each));
      if (paragraph.length) made.push(withInline("p", paragraph.join(" "), pictures));
      else at += 1;
    }
  }
  return made;
}

const ITEM = /^\s*([-*+]|\d+[.)])\s+/;

function listOf(lines, pictures) {
  const list = element(/^\s*\d/.test(lines[0]) ? "ol" : "ul");
  const indent = /^\s*/.exec(lines[0])[0].length;
  const items = [];
  for (const line of lines) {
    const isNew = ITEM.test(line) && /^\s*/.exec(line)[0].length <= indent;
    if (isNew) items.push([line.replace(ITEM, "")]);
    else items.at(-1).push(line);
  }
  for (const [first, ...rest] of items) {
    const item = withInline("li", first, pictures);
    const nested = rest.findIndex((line) => ITEM.test(line));
    const more = nested < 0 ? rest : rest.slice(0, nested);
    if (more.length) item.append(" ", ...inline(more.map((line) => line.trim()).join(" "), pictures));
    if (nested >= 0) item.append(listOf(rest.slice(nested), pictures));
    list.append(item);
  }
  return list;
}

function tableOf(lines, pictures) {
  const rows = lines.map((line) => line.trim().slice(1, -1).split("|").map((cell) => cell.trim()));
  const headed = rows.length > 1 && rows[1].every((cell) => /^:?-+:?$/.test(cell));
  const table = element("table");
  rows.forEach((cells, place) => {
    if (headed && place === 1) return;
    const row = element("tr");
    row.append(...cells.map((cell) => withInline(headed && !place ? "th" : "td", cell, pictures)));
    table.append(row);
  });
  return table;
}

function withInline(kind, text, pictures) {
  const made = element(kind);
  made.append(...inline(text, pictures));
  return made;
}

/** Text, code, pictures, links, bold and italic. */
function inline(text, pictures) {
  const made = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, alt, source, label, target, bold, italic] = found;
    made.push(text.slice(end, found.index));
    end = found.index + whole.length;
    if (code) made.push(element("code", "", code.slice(1, -1)));
    else if (source) made.push(picture(alt, pictures[source]));
    else if (label) made.push(link(label, target));
    else if (bold) made.push(withInline("strong", bold, pictures));
    else made.push(withInline("em", italic, pictures));
  }
  return [...made, text.slice(end)];
}

function picture(alt, address) {
  if (!address) return `[${alt}]`;
  const made = element("img");
  Object.assign(made, { src: address, alt, loading: "lazy" });
  return made;
}

function link(label, target) {
  if (!/^https?:\/\//.test(target)) return label;
  const made = element("a", "", label);
  Object.assign(made, { href: target, target: "_blank", rel: "noopener noreferrer" });
  return made;
}
