const cart = async () => (await fetch("/cart")).json();

function show(c) {
  document.getElementById("total").value = c.total;
  for (const p of document.querySelectorAll("[data-sku]")) {
    const n = c.items[p.dataset.sku];
    p.textContent = n ? n + " in the cart" : "";
  }
}

document.getElementById("race").addEventListener("click", async (event) => {
  const button = event.target, verdict = document.getElementById("verdict");
  const bar = document.querySelector("#bar i");
  const requests = 200;
  button.disabled = true;
  verdict.className = verdict.textContent = "";
  const before = (await cart()).total;
  let done = 0, failed = 0;
  await Promise.all(Array.from({ length: requests }, async () => {
    const r = await fetch("/add", {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams({ sku: "sponge" }),
    });
    if (!r.ok) failed++;
    bar.style.width = (100 * ++done) / requests + "%";
  }));
  const after = await cart();
  show(after);
  const arrived = after.total - before;
  verdict.textContent = `${requests} requests, ${failed} refused, ${arrived} sponges arrived, ${requests - failed - arrived} lost.`;
  if (arrived !== requests - failed) verdict.className = "bad";
  button.disabled = false;
});
