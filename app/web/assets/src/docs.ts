// The page of the API: Swagger UI on our own OpenAPI document.
interface SwaggerBundle {
  (options: Record<string, unknown>): unknown;
  presets: { apis: unknown };
}
const bundle = (window as unknown as { SwaggerUIBundle: SwaggerBundle }).SwaggerUIBundle;
bundle({
  url: document.getElementById("swagger")?.dataset["openapi"],
  dom_id: "#swagger",
  presets: [bundle.presets.apis],
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
