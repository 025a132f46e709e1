// Pictures beside each other, straight from the service; a click shows one on the whole screen.

class Pictures {
  constructor(root) {
    this.root = root.querySelector(".pictures");
    this.wanted = null;
    this.blobs = [];
  }

  update(data) {
    const wanted = JSON.stringify(data);
    if (wanted === this.wanted) return;
    this.close();
    this.wanted = wanted;
    this.root.replaceChildren(...data.pictures.map((picture) => this.figure(picture, data.token)));
  }

  figure({ title, url, name, alpha }, token) {
    const figure = document.createElement("figure");
    const frame = document.createElement("div");
    frame.className = alpha ? "frame alpha" : "frame";
    frame.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen());
    const image = document.createElement("img");
    image.alt = title;
    frame.append(image);
    const caption = document.createElement("figcaption");
    const words = document.createElement("span");
    words.textContent = title;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Download";
    button.setAttribute("aria-label", `Download ${title}`);
    caption.append(words, button);
    figure.append(frame, caption);
    this.load(image, button, { url, name, token }).catch(() => {
      words.textContent = `${title}: cannot be loaded`;
    });
    return figure;
  }

  async load(image, button, { url, name, token }) {
    // An <img> cannot send a token, and a picture of a person may not lie in the browser's cache.
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(fromHere(url), { headers, cache: "no-store" });
    if (!response.ok) throw await refusal(response);
    const address = URL.createObjectURL(await response.blob());
    this.blobs.push(address);
    image.src = address;
    button.onclick = () => {
      const link = document.createElement("a");
      link.href = address;
      link.download = name;
      link.click();
    };
  }

  close() {
    this.wanted = null;
    for (const blob of this.blobs) URL.revokeObjectURL(blob);
    this.blobs = [];
  }
}

export default function ({ data, parentElement }) {
  parentElement.__pictures ??= new Pictures(parentElement);
  parentElement.__pictures.update(data);
  return () => {
    parentElement.__pictures?.close();
    delete parentElement.__pictures;
  };
}
