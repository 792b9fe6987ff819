(() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Charts take the page's colours, so that they follow it from light to dark.
  const theme = () => {
    const [ink, muted, line] = ["--ink", "--muted", "--line"].map(color);
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: "transparent",
      font,
      view: { stroke: line },
      axis: {
        labelColor: muted, titleColor: muted, titleFontWeight: "normal", gridColor: line,
        domainColor: line, tickColor: line, labelFontSize: 11, titleFontSize: 11.5,
      },
      axisY: { labelFontSize: 12 },
      legend: { labelColor: ink, labelFontSize: 12 },
      header: { labelColor: ink, labelFontSize: 13, labelFontWeight: 600 },
    };
  };
  const draw = () => {
    for (const spec of document.querySelectorAll("script.spec")) {
      const place = document.getElementById(spec.dataset.chart);
      const { config, ...content } = JSON.parse(spec.textContent);
      const actions = { export: true, source: false, compiled: false, editor: false };
      vegaEmbed(place, { ...content, config: theme() }, { renderer: "svg", actions }).catch((error) => {
        place.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
