// Links the figures of the report: a rate is picked, a value read, training replayed. Everything is readable without it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const NS = "http://www.w3.org/2000/svg";
  const said = document.getElementById("said");
  const index = new Map(data.rates.map((rate, i) => [rate.name, i]));
  const last = data.times.length ? data.times[data.times.length - 1] : 0;  // of a study that is not finished short of its horizon
  let picked = null, now = last;
  const slider = document.getElementById("time");
  document.documentElement.classList.add("js");

  // Axes: from a value to a place in the drawing.
  const forward = {
    linear: (v) => v,
    log: (v) => Math.log10(Math.max(v, 1e-300)),
    share: (v) => -Math.log10(Math.max(1 - v, 1e-6)),
  };
  const along = ([scale, low, high], v) => {
    const f = forward[scale];
    return (f(v) - f(low)) / (f(high) - f(low));
  };
  const toX = (place, v) => place.box[0] + along(place.x, v) * (place.box[2] - place.box[0]);
  const toY = (place, v) => place.box[3] - along(place.y, v) * (place.box[3] - place.box[1]);
  const inside = (v, low, high) => Math.min(Math.max(v, low), high);
  const number = (v, percent) => percent ? `${(percent * v).toFixed(2)} %` : `${Number(v.toPrecision(4))}`;
  const time = (v, unit) => `${unit} ${Number(v.toPrecision(6)).toLocaleString("en")}`;

  const plots = all(".plot").map((box) => {
    const figure = box.closest("figure").dataset.figure;
    const its = data.figures[figure];
    return its && { box, figure, its, svg: box.querySelector("svg"), places: its[box.dataset.look], tip: null };
  }).filter(Boolean);

  // Picking a rate lifts all that belongs to it, and draws its seeds one by one.
  function pick(name) {
    picked = index.has(name) ? name : null;
    for (const svg of all(".plot svg")) {
      svg.classList.toggle("picking", picked !== null);
      for (const part of all("[data-lr]", svg)) part.classList.toggle("on", part.dataset.lr === picked);
    }
    for (const row of all("#table tbody tr")) {
      row.classList.toggle("picked", row.dataset.lr === picked);
      row.querySelector("button").setAttribute("aria-pressed", row.dataset.lr === picked);
    }
    const chip = all("#chips input").find((input) => input.value === (picked ?? ""));
    if (chip) {
      chip.checked = true;
      const label = chip.parentElement, row = label.parentElement;
      row.scrollLeft = inside(row.scrollLeft, label.offsetLeft + label.offsetWidth - row.clientWidth, label.offsetLeft);
    }
    singles();
    if (picked !== null) {
      const row = all("#table tbody tr").find((one) => one.dataset.lr === picked);
      say(row ? `${all("td", row).map((cell) => cell.textContent.trim()).join(", ")}` : picked);
    }
  }
  function singles() {
    for (const old of all(".single")) old.remove();
    if (picked === null) return;
    const rate = index.get(picked);
    for (const plot of plots.filter((one) => one.its.panels)) {
      plot.its.panels.forEach((panel, i) => {
        const place = plot.places[i];
        if (!place) return;
        band(plot, place, panel.lines.find((line) => line.rate === rate), i);
        if (!panel.single) return;
        const trials = data.trials.filter((trial) => trial.rate === rate);
        if (trials.length < 2) return;
        for (const trial of trials) {
          const line = document.createElementNS(NS, "polyline");
          const points = [];
          trial.times.forEach((t, k) => {
            const v = trial[panel.single][k];
            if (v === null || t > now || (t === 0 && place.x[1] > 0)) return;
            points.push(`${toX(place, t).toFixed(1)},${inside(toY(place, v), place.box[1], place.box[3]).toFixed(1)}`);
          });
          line.setAttribute("class", "single");
          line.setAttribute("points", points.join(" "));
          line.style.stroke = `var(--rate${rate})`;
          plot.svg.append(line);
        }
      });
    }
  }

  function band(plot, place, line, i) {  // of many rates the figure draws one only
    if (!line || line.n < 2 || plot.svg.querySelector(`[data-panel="${i}"] .spread[data-lr="${picked}"]`)) return;
    const shown = line.x.map((x, k) => [x, line.low[k], line.high[k]]).filter(([x, low, high]) => x <= now * plot.its.per && low !== null && high !== null);
    const at = ([x, y]) => `${toX(place, x).toFixed(1)},${inside(toY(place, y), place.box[1], place.box[3]).toFixed(1)}`;
    const area = document.createElementNS(NS, "polygon");
    area.setAttribute("class", "single area");
    area.setAttribute("points", [...shown.map(([x, low]) => at([x, low])), ...shown.map(([x, , high]) => at([x, high])).reverse()].join(" "));
    area.style.fill = `var(--rate${line.rate})`;
    plot.svg.append(area);
  }

  // Replaying: curves are cut at a time, dots stand where they stood then.
  const clips = [];
  function cut(plot, place, i, room, over, parts) {  // room beyond the time, and over the frame, for what is drawn around a place
    const clip = document.createElementNS(NS, "clipPath"), rect = document.createElementNS(NS, "rect");
    clip.id = `until-${plot.figure}-${plot.box.dataset.look}-${i}-${room}`;
    const [left, top, , bottom] = place.box;
    for (const [key, value] of Object.entries({ x: left - 8, y: top - over, height: bottom - top + 2 * over })) rect.setAttribute(key, value);
    clip.append(rect);
    plot.svg.append(clip);
    const own = parts.map((part) => [part, part.getAttribute("clip-path")]);
    clips.push({ place, rect, room, per: plot.its.per, own, url: `url(#${clip.id})` });
  }
  for (const plot of plots.filter((one) => one.its.panels)) {
    plot.places.forEach((place, i) => {
      const panel = plot.svg.querySelector(`[data-panel="${i}"]`);
      if (!panel) return;
      cut(plot, place, i, 0, 0, all(".line>path,.raw,.spread", panel));
      cut(plot, place, i, 4, 12, all(".line,.ended,.paused", panel));  // with their dots
    });
  }
  const heads = all("figure[data-figure=rates] h2").map((head) => ({ head, parts: [...head.childNodes], text: head.textContent }));
  function replay(to) {
    now = to;
    const replaying = to < last;
    for (const svg of all(".plot svg")) svg.classList.toggle("replaying", replaying);
    for (const { place, rect, room, per, own, url } of clips) {
      const x = inside(toX(place, Math.max(now * per, place.x[0] === "log" ? 1e-300 : -Infinity)), place.box[0], place.box[2]);
      rect.setAttribute("width", Math.max(0, x - place.box[0] + 8 + room));
      for (const [part, before] of own) {
        if (replaying) part.setAttribute("clip-path", url);
        else before === null ? part.removeAttribute("clip-path") : part.setAttribute("clip-path", before);
      }
    }
    for (const plot of plots.filter((one) => one.figure === "rates")) dots(plot, replaying);
    singles();
    if (!slider) return;
    const [then, end] = [to, data.horizon].map((v) => Number(v.toPrecision(6)).toLocaleString("en"));
    for (const { head, parts, text } of heads) {
      const early = text.replace(`after ${end} ${data.unit}`, `after ${then} of ${end} ${data.unit}`);
      replaying ? head.replaceChildren(early) : head.replaceChildren(...parts);
    }
    const output = document.getElementById("now");
    output.textContent = `${then} of ${end}`;
    output.style.minWidth = `${2 * end.length + 3}ch`;  // nothing moves while it counts
    slider.setAttribute("aria-valuetext", `${data.unit} ${then} of ${end}`);
  }
  const reached = (trial, field) => {
    let value = null;
    trial.times.forEach((t, k) => { if (t <= now && trial[field][k] !== null) value = trial[field][k]; });
    return value;
  };
  function dots(plot, replaying) {
    const place = plot.places[0], sums = new Map();
    for (const use of all(".seeds use", plot.svg)) {
      const name = use.closest(".seeds").dataset.lr, rate = index.get(name);
      const trial = data.trials.find((one) => one.rate === rate && String(one.seed) === use.dataset.seed);
      use.dataset.y ??= use.getAttribute("y");
      const value = replaying && trial ? reached(trial, "metric") : null;
      use.classList.toggle("unheard", replaying && value === null);
      const y = value === null ? Number(use.dataset.y) : inside(toY(place, value), place.box[1], place.box[3]);
      use.setAttribute("y", y);
      if (value !== null) sums.set(name, [...(sums.get(name) ?? []), value]);
    }
    for (const part of all(".mean", plot.svg)) {
      const use = part.querySelector("use"), values = sums.get(part.dataset.lr);
      use.dataset.y ??= use.getAttribute("y");
      part.classList.toggle("unheard", replaying && !values);
      const mean = values && values.reduce((a, b) => a + b, 0) / values.length;
      use.setAttribute("y", values ? inside(toY(place, mean), place.box[1], place.box[3]) : use.dataset.y);
    }
  }

  // Reading a value, under the pointer or with the arrow keys.
  function marks(plot) {
    const made = [];
    if (plot.its.points) {
      const place = plot.places[0];
      for (const point of plot.its.points) {
        const trial = data.trials.find((one) => one.rate === point.rate && one.seed === point.seed);
        const value = now < last && trial ? reached(trial, "metric") : point.value;
        if (value === null) continue;
        const rate = data.rates[point.rate];
        made.push({
          rate: point.rate, order: point.seed, x: toX(place, point.lr), y: inside(toY(place, value), place.box[1], place.box[3]),
          text: `rate ${rate.text}, seed ${point.seed}\n${plot.its.words} ${number(value, plot.its.percent)}`,
        });
      }
    }
    (plot.its.panels ?? []).forEach((panel, i) => {
      const place = plot.places[i];
      for (const line of place ? panel.lines : []) {
        line.x.forEach((x, k) => {
          if (x > now * plot.its.per * (1 + 1e-9) || line.y[k] === null) return;
          const spread = line.low && line.n > 1 ? `\n${line.n} seeds, ${number(line.low[k], panel.percent)} to ${number(line.high[k], panel.percent)}` : "";
          made.push({
            rate: line.rate, order: i * 1e9 + x, x: toX(place, x), y: inside(toY(place, line.y[k]), place.box[1], place.box[3]),
            text: `rate ${data.rates[line.rate].text}, ${time(x, plot.its.unit)}\n${panel.words} ${number(line.y[k], panel.percent)}${spread}`,
          });
        });
      }
    });
    return made;
  }
  function show(plot, mark) {
    hide();
    const tip = document.createElement("div"), ring = document.createElementNS(NS, "circle");
    tip.className = "tip";
    tip.textContent = mark.text;
    ring.setAttribute("class", "cursor");
    for (const [key, value] of Object.entries({ cx: mark.x, cy: mark.y, r: 5 })) ring.setAttribute(key, value);
    plot.svg.append(ring);
    plot.box.append(tip);
    const [, , width, height] = plot.svg.getAttribute("viewBox").split(" ").map(Number);
    const scale = plot.box.clientWidth / width;
    tip.style.left = `${inside(mark.x * scale - tip.offsetWidth / 2, 0, plot.box.clientWidth - tip.offsetWidth)}px`;
    const above = mark.y * scale - tip.offsetHeight - 12;
    tip.style.top = `${above > 0 ? above : Math.min(mark.y * scale + 12, height * scale)}px`;
    plot.tip = mark;
  }
  function hide() {
    for (const old of all(".tip,.cursor")) old.remove();
    for (const plot of plots) plot.tip = null;
  }
  function say(text) { said.textContent = text.replaceAll("\n", ", "); }

  for (const plot of plots) {
    const near = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.svg.getScreenCTM().inverse());
      const wanted = picked === null ? null : index.get(picked);
      let best = null, least = 22;
      for (const mark of marks(plot)) {
        if (wanted !== null && mark.rate !== wanted) continue;
        const far = Math.hypot(mark.x - at.x, mark.y - at.y);
        if (far < least) [best, least] = [mark, far];
      }
      return best;
    };
    plot.box.tabIndex = 0;
    plot.box.setAttribute("role", "group");
    plot.box.setAttribute("aria-label", `${plot.box.closest("figure").querySelector("h2").textContent}: arrow keys read its values`);
    plot.box.addEventListener("pointermove", (event) => {
      const mark = near(event);
      mark ? show(plot, mark) : hide();
    });
    plot.box.addEventListener("pointerleave", hide);
    plot.box.addEventListener("blur", hide);
    plot.box.addEventListener("click", (event) => {
      const part = event.target.closest("[data-lr]"), mark = near(event);
      const name = part ? part.dataset.lr : mark ? data.rates[mark.rate].name : null;
      pick(name === picked ? null : name);
      if (mark) show(plot, mark);
    });
    plot.box.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      const every = marks(plot), rates = [...new Set(every.map((mark) => mark.rate))].sort((a, b) => a - b);
      if (!rates.length) return;
      const begun = plot.tip ?? { rate: picked === null ? index.get(data.best) ?? rates[0] : index.get(picked), order: -1 };
      let rate = begun.rate, of = every.filter((mark) => mark.rate === rate).sort((a, b) => a.order - b.order);
      let k = of.findIndex((mark) => mark.order === begun.order);
      if (event.key === "ArrowRight") k += 1;
      if (event.key === "ArrowLeft") k = k < 0 ? of.length - 1 : k - 1;
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        rate = rates[inside(rates.indexOf(rate) + (event.key === "ArrowUp" ? 1 : -1), 0, rates.length - 1)];
        of = every.filter((mark) => mark.rate === rate).sort((a, b) => a.order - b.order);
        const nearest = of.map((mark) => Math.abs(mark.order - begun.order));
        k = plot.tip ? nearest.indexOf(Math.min(...nearest)) : of.length - 1;
      }
      const mark = of[inside(k, 0, of.length - 1)];
      if (!mark) return;
      if (data.rates[rate].name !== picked) pick(data.rates[rate].name);
      show(plot, mark);
      say(mark.text);
    });
  }

  for (const box of all(".plot").filter((one) => !plots.some((plot) => plot.box === one))) {  // no values to read, but rates to pick
    box.addEventListener("click", (event) => {
      const part = event.target.closest("[data-lr]");
      if (part) pick(part.dataset.lr === picked ? null : part.dataset.lr);
    });
  }

  // Controls, and the table.
  for (const input of all("#chips input")) input.addEventListener("change", () => { hide(); pick(input.value); });
  if (slider) slider.addEventListener("input", () => { hide(); replay(data.times[Number(slider.value)]); });
  const controls = document.getElementById("controls");
  controls?.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { hide(); pick(null); } });

  const table = document.getElementById("table");
  if (table) {
    const body = table.tBodies[0];
    for (const row of body.rows) {
      const name = row.querySelector(".rate .mono"), button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `pick rate ${name.textContent}`);
      button.setAttribute("aria-pressed", "false");
      button.append(...name.childNodes);
      name.append(button);
      row.addEventListener("click", (event) => {
        if (!button.contains(event.target) && !getSelection().isCollapsed) return;  // a text is being selected, not a rate
        pick(row.dataset.lr === picked ? null : row.dataset.lr);
      });
    }
    all("th[data-sort]", table).forEach((head) => {
      const column = head.cellIndex;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        for (const other of all("th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.order;
        const value = { inf: Infinity, "-inf": -Infinity };
        const order = (a, b) => {
          const [one, other] = [key(a), key(b)].map((text) => value[text] ?? (text === "" || Number.isNaN(Number(text)) ? text : Number(text)));
          return one < other ? -1 : one > other ? 1 : 0;
        };
        body.append(...[...body.rows].sort((a, b) => (falling ? -1 : 1) * order(a, b)));
      });
    });
  }
  replay(last);
})();
