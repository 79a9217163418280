"use strict";
// What pages do beyond HTML: their live part is replaced as events come, plots are
// drawn, files are uploaded with their progress. Without it all else works.
(() => {
  const live = document.getElementById("live");
  const plots = new Map();

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function draw() {
    for (const data of document.querySelectorAll("[data-for]")) {
      const place = document.querySelector(`[data-plot="${data.dataset.for}"]`);
      if (!place) continue;
      const values = JSON.parse(data.dataset.values), names = JSON.parse(data.dataset.series);
      if (!values[0] || values[0].length < 2) {
        if (!plots.has(place)) place.textContent = "There is nothing to plot yet.";
        continue;
      }
      const known = plots.get(place);
      if (known) {
        known.setData(values);
        continue;
      }
      place.textContent = "";
      const strokes = ["--flight-fill", "--bad-fill"].map(color);
      const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
      plots.set(place, new uPlot({
        width: place.clientWidth, height: 200,
        scales: { y: { range: (_, min, max) => [0, max > 0 ? max * 1.05 : 1] } },
        series: [{}].concat(names.map((label, i) => ({ label, stroke: strokes[i], width: 2, fill: i === 0 ? strokes[0] + "22" : undefined, points: { show: values[0].length < 30 } }))),
        axes: [axis, { ...axis, size: 64 }],
      }, values, place));
    }
  }

  function redraw() {
    for (const [place, plot] of plots) {
      plot.destroy();
      place.textContent = "";
    }
    plots.clear();
    draw();
  }

  addEventListener("resize", () => {
    for (const [place, plot] of plots) plot.setSize({ width: place.clientWidth, height: 200 });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // The live part, replaced without losing what is selected, open or focused.
  function replace(html) {
    const chosen = new Set(Array.from(live.querySelectorAll("input[type=checkbox]:checked"), (box) => box.value));
    const open = new Set(Array.from(live.querySelectorAll("details[open]"), (_, i) => i));
    const focused = live.contains(document.activeElement) ? pathTo(document.activeElement) : null;
    const scrolled = Array.from(live.querySelectorAll(".scroll"), (box) => box.scrollLeft);
    live.innerHTML = html;
    for (const box of live.querySelectorAll("input[type=checkbox]")) box.checked = chosen.has(box.value);
    live.querySelectorAll("details").forEach((d, i) => { d.open = open.has(i); });
    live.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
    if (focused) live.querySelector(focused)?.focus({ preventScroll: true });
    draw();
  }

  function pathTo(element) {
    const parts = [];
    for (let e = element; e && e !== live; e = e.parentElement) {
      parts.unshift(`${e.tagName.toLowerCase()}:nth-child(${Array.prototype.indexOf.call(e.parentElement.children, e) + 1})`);
    }
    return "#live > " + parts.join(" > ");
  }

  function listen() {
    const lost = document.getElementById("connection");
    let source = null, pressed = false, waiting = null;
    // What is being pressed is not taken away, for a click would be lost.
    live.addEventListener("pointerdown", () => { pressed = true; });
    for (const name of ["pointerup", "pointercancel"]) {
      addEventListener(name, () => setTimeout(() => {
        pressed = false;
        if (waiting !== null) replace(waiting);
        waiting = null;
      }));
    }
    const begin = () => {
      if (source || document.hidden) return;
      source = new EventSource(live.dataset.live);
      source.addEventListener("live", (event) => {
        lost.hidden = true;
        // A control that is being used is not taken away.
        if (document.activeElement && live.contains(document.activeElement) && document.activeElement.matches("select, input:not([type=checkbox])")) return;
        if (pressed) waiting = event.data;
        else replace(event.data);
      });
      source.addEventListener("end", () => {
        source.close();
        live.dataset.live = "";
      });
      source.onopen = () => { lost.hidden = true; };
      source.onerror = () => { lost.hidden = false; };
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) {
        if (live.dataset.live) begin();
      } else if (source) {
        source.close();
        source = null;
      }
    });
    addEventListener("pagehide", () => source?.close());
    begin();
  }

  function selectAll() {
    const all = document.getElementById("select-all");
    if (!all) return;
    all.parentElement.hidden = false;
    all.addEventListener("change", () => {
      for (const box of live.querySelectorAll("input[type=checkbox]")) box.checked = all.checked;
    });
  }

  function upload() {
    const form = document.getElementById("upload-form");
    if (!form) return;
    const input = document.getElementById("file"), drop = document.getElementById("drop"), bar = document.getElementById("upload-progress");
    const status = document.getElementById("upload-status"), problems = document.getElementById("upload-problems");
    const say = (text) => { status.textContent = text; };
    const note = (text) => {
      const item = document.createElement("li");
      item.className = "problem";
      item.textContent = text;
      problems.append(item);
    };
    // Resolves to what is wrong with the file, line by line; to nothing if it was taken.
    const send = (file) => new Promise((resolve) => {
      const body = new FormData(), request = new XMLHttpRequest();
      body.append("purpose", "batch");
      body.append("file", file, file.name);
      bar.value = 0;
      say(`${file.name} is being sent.`);
      request.upload.addEventListener("progress", (event) => {
        if (!event.lengthComputable) return;
        bar.value = event.loaded / event.total * 100;
        say(event.loaded < event.total ? `${file.name}: ${Math.floor(bar.value)} % sent.` : `${file.name} is being checked.`);
      });
      request.addEventListener("load", () => {
        let answer = {};
        try { answer = JSON.parse(request.responseText); } catch { /* it says nothing then */ }
        if (request.status < 300) resolve([]);
        else resolve((answer.error?.message || `The server answered with status ${request.status}.`).split("\n"));
      });
      request.addEventListener("error", () => resolve(["The connection was lost. Nothing was kept; please try again."]));
      request.open("POST", "/v1/files");
      request.send(body);
    });
    // One after the other: each takes one of the server's places for uploads.
    let sending = false;
    const sendAll = async (files) => {
      if (sending) return;
      sending = true;
      problems.textContent = "";
      bar.hidden = false;
      let refused = 0, first = "";
      for (const file of files) {
        const lines = await send(file);
        if (!lines.length) continue;
        refused++;
        first ||= lines[0];
        if (files.length > 1) note(`${file.name}: ${lines[0]}`);
        lines.slice(1).forEach(note);
      }
      sending = false;
      bar.hidden = true;
      if (!refused) location.assign("/ui/files");
      else if (files.length === 1) say(first);
      else say(`${files.length - refused} of ${files.length} files were uploaded. The list below shows them when the page is loaded again.`);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (input.files.length) sendAll(Array.from(input.files));
    });
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files.length) sendAll(Array.from(event.dataTransfer.files));
    });
  }

  draw();
  if (live && live.dataset.live) listen();
  selectAll();
  upload();
})();
