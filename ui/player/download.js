// A button that downloads a file of any size: the browser writes it to disk as it comes, nothing lies in memory. Only for
// what the service sends as an attachment: the page would be left for anything else.

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  const status = parentElement.querySelector(".status");
  button.textContent = data.label;
  button.onclick = async () => {
    status.textContent = "";
    try {
      const link = document.createElement("a");
      link.href = await linked(data.url, data.token);
      link.download = "";
      link.click();
    } catch (error) {
      status.textContent = error instanceof Refused ? error.message : "The service does not answer.";
    }
  };
}
