const $ = (id) => document.getElementById(id);

function show(c) {
  $("total").value = c.total;
  $("orders").value = c.orders;
  for (const p of document.querySelectorAll("[data-sku]")) {
    const n = c.items[p.dataset.sku];
    p.textContent = n ? n + " in the cart" : "";
  }
}

// The cart as it changes, in whichever tab.
const events = new EventSource("/events");
events.onmessage = (e) => { $("live").textContent = "live"; show(JSON.parse(e.data)); };
events.onerror = () => { $("live").textContent = "connecting"; };
events.addEventListener("ended", () => {
  events.close();
  $("live").textContent = "logged out";
  document.body.classList.add("ended");
  const p = document.createElement("p");
  p.className = "flash";
  p.textContent = "This session has ended. ";
  const a = document.createElement("a");
  a.href = "/";
  a.textContent = "Start again";
  p.append(a);
  $("notes").replaceChildren(p);
});

// Adding needs no new page.
for (const form of document.querySelectorAll("form.article")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    post("/add", new URLSearchParams(new FormData(form)));
  });
}

const post = (path, body) => fetch(path, { method: "POST", headers: { Accept: "application/json" }, body });

$("race").addEventListener("click", async (event) => {
  const requests = 200, button = event.target;
  button.disabled = true;
  for (const side of ["loadsave", "sessile"]) {
    $("bar-" + side).firstElementChild.style.width = 0;
    $(side).textContent = "…";
  }
  await post("/race/start");
  const refused = { loadsave: 0, sessile: 0 };
  await Promise.all(Array.from({ length: requests }, () => ["loadsave", "sessile"].map(async (side) => {
    const r = await post("/race/" + side);
    if (!r.ok) refused[side]++;
  })).flat());
  const got = await (await fetch("/race/result")).json();
  for (const side of ["loadsave", "sessile"]) {
    $("bar-" + side).firstElementChild.style.width = (100 * got[side]) / requests + "%";
    $(side).textContent = `${got[side]} of ${requests} counted, ${requests - refused[side] - got[side]} lost`;
  }
  button.disabled = false;
});
